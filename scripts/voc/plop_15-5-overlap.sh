#!/bin/sh
# PLOP on Pascal VOC, task 15-5, overlapped setting: sh scripts/voc/plop_15-5-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=overlap METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
