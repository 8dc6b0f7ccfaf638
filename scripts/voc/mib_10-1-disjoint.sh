#!/bin/sh
# MiB on Pascal VOC, task 10-1, disjoint setting: sh scripts/voc/mib_10-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=disjoint METHOD=MiB
. "$(dirname "$0")/../launch.sh"
