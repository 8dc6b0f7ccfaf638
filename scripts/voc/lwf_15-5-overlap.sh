#!/bin/sh
# LWF on Pascal VOC, task 15-5, overlapped setting: sh scripts/voc/lwf_15-5-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=overlap METHOD=LWF
. "$(dirname "$0")/../launch.sh"
