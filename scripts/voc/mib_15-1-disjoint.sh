#!/bin/sh
# MiB on Pascal VOC, task 15-1, disjoint setting: sh scripts/voc/mib_15-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-1 SETTING=disjoint METHOD=MiB
. "$(dirname "$0")/../launch.sh"
