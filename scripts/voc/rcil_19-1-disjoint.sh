#!/bin/sh
# RCIL on Pascal VOC, task 19-1, disjoint setting: sh scripts/voc/rcil_19-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=19-1 SETTING=disjoint METHOD=RCIL
. "$(dirname "$0")/../launch.sh"
