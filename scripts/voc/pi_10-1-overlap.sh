#!/bin/sh
# PI on Pascal VOC, task 10-1, overlapped setting: sh scripts/voc/pi_10-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=overlap METHOD=PI
. "$(dirname "$0")/../launch.sh"
