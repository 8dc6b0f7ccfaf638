#!/bin/sh
# FT on Pascal VOC, task 15-5, disjoint setting: sh scripts/voc/ft_15-5-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=disjoint METHOD=FT
. "$(dirname "$0")/../launch.sh"
