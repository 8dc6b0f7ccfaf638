#!/bin/sh
# MiB on Pascal VOC, task 10-1, overlapped setting: sh scripts/voc/mib_10-1-overlap.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=overlap METHOD=MiB
. "$(dirname "$0")/../launch.sh"
