#!/bin/sh
# LWF on ADE20K, task 100-50, overlapped setting: sh scripts/ade/lwf_100-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-50 SETTING=overlap METHOD=LWF
. "$(dirname "$0")/../launch.sh"
