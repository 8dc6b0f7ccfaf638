#!/bin/sh
# RCIL on Pascal VOC, task 19-1, overlapped setting: sh scripts/voc/rcil_19-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=19-1 SETTING=overlap METHOD=RCIL
. "$(dirname "$0")/../launch.sh"
