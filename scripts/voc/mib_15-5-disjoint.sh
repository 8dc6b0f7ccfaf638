#!/bin/sh
# MiB on Pascal VOC, task 15-5, disjoint setting: sh scripts/voc/mib_15-5-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=disjoint METHOD=MiB
. "$(dirname "$0")/../launch.sh"
