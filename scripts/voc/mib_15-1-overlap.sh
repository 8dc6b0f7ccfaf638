#!/bin/sh
# MiB on Pascal VOC, task 15-1, overlapped setting: sh scripts/voc/mib_15-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=overlap METHOD=MiB
. "$(dirname "$0")/../launch.sh"
