#!/bin/sh
# FT on Pascal VOC, task 15-1, disjoint setting: sh scripts/voc/ft_15-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=disjoint METHOD=FT
. "$(dirname "$0")/../launch.sh"
