#!/bin/sh
# LWF-MC on Pascal VOC, task 15-1, overlapped setting: sh scripts/voc/lwf-mc_15-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=overlap METHOD=LWF-MC
. "$(dirname "$0")/../launch.sh"
