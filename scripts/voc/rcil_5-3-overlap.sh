#!/bin/sh
# RCIL on Pascal VOC, task 5-3, overlapped setting: sh scripts/voc/rcil_5-3-overlap.sh [--test] [run.py options]
DATASET=voc TASK=5-3 SETTING=overlap METHOD=RCIL
. "$(dirname "$0")/../launch.sh"
