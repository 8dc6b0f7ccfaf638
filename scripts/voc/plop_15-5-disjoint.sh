#!/bin/sh
# PLOP on Pascal VOC, task 15-5, disjoint setting: sh scripts/voc/plop_15-5-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=disjoint METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
