#!/bin/sh
# EWC on ADE20K, task 100-50, overlapped setting: sh scripts/ade/ewc_100-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-50 SETTING=overlap METHOD=EWC
. "$(dirname "$0")/../launch.sh"
