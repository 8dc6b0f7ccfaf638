#!/bin/sh
# LWF on ADE20K, task 100-5, overlapped setting: sh scripts/ade/lwf_100-5-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-5 SETTING=overlap METHOD=LWF
. "$(dirname "$0")/../launch.sh"
