#!/bin/sh
# FT on Pascal VOC, task 10-1, disjoint setting: sh scripts/voc/ft_10-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=disjoint METHOD=FT
. "$(dirname "$0")/../launch.sh"
