#!/bin/sh
# EWC on ADE20K, task 100-10, overlapped setting: sh scripts/ade/ewc_100-10-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-10 SETTING=overlap METHOD=EWC
. "$(dirname "$0")/../launch.sh"
