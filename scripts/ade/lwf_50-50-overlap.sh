#!/bin/sh
# LWF on ADE20K, task 50-50, overlapped setting: sh scripts/ade/lwf_50-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=50-50 SETTING=overlap METHOD=LWF
. "$(dirname "$0")/../launch.sh"
