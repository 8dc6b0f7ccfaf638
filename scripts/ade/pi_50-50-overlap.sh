#!/bin/sh
# PI on ADE20K, task 50-50, overlapped setting: sh scripts/ade/pi_50-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=50-50 SETTING=overlap METHOD=PI
. "$(dirname "$0")/../launch.sh"
