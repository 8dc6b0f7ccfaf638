#!/bin/sh
# RW on Pascal VOC, task 10-1, disjoint setting: sh scripts/voc/rw_10-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=disjoint METHOD=RW
. "$(dirname "$0")/../launch.sh"
