#!/bin/sh
# LWF-MC on Pascal VOC, task 10-1, disjoint setting: sh scripts/voc/lwf-mc_10-1-disjoint.sh [--test] [run.py options]
DATASET=voc TASK=10-1 SETTING=disjoint METHOD=LWF-MC
. "$(dirname "$0")/../launch.sh"
