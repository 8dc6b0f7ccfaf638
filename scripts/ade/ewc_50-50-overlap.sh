#!/bin/sh
# EWC on ADE20K, task 50-50, overlapped setting: sh scripts/ade/ewc_50-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=50-50 SETTING=overlap METHOD=EWC
. "$(dirname "$0")/../launch.sh"
