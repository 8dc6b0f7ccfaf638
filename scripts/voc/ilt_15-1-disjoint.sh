#!/bin/sh
# ILT on Pascal VOC, task 15-1, disjoint setting: sh scripts/voc/ilt_15-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=disjoint METHOD=ILT
. "$(dirname "$0")/../launch.sh"
