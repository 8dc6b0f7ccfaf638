#!/bin/sh
# PLOP on Pascal VOC, task 15-1, disjoint setting: sh scripts/voc/plop_15-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=disjoint METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
