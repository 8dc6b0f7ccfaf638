#!/bin/sh
# ILT on Pascal VOC, task 10-1, overlapped setting: sh scripts/voc/ilt_10-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=overlap METHOD=ILT
. "$(dirname "$0")/../launch.sh"
