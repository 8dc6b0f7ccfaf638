#!/bin/sh
# EWC on Pascal VOC, task 15-1, disjoint setting: sh scripts/voc/ewc_15-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=disjoint METHOD=EWC
. "$(dirname "$0")/../launch.sh"
