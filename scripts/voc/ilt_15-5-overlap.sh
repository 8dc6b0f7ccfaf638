#!/bin/sh
# ILT on Pascal VOC, task 15-5, overlapped setting: sh scripts/voc/ilt_15-5-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=overlap METHOD=ILT
. "$(dirname "$0")/../launch.sh"
