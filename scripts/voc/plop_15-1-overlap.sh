#!/bin/sh
# PLOP on Pascal VOC, task 15-1, overlapped setting: sh scripts/voc/plop_15-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=overlap METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
