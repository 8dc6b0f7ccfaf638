#!/bin/sh
# RCIL on Pascal VOC, task 5-3, disjoint setting: sh scripts/voc/rcil_5-3-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=5-3 SETTING=disjoint METHOD=RCIL
. "$(dirname "$0")/../launch.sh"
