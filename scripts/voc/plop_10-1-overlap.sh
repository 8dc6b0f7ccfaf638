#!/bin/sh
# PLOP on Pascal VOC, task 10-1, overlapped setting: sh scripts/voc/plop_10-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=overlap METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
