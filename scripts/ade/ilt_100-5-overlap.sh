#!/bin/sh
# ILT on ADE20K, task 100-5, overlapped setting: sh scripts/ade/ilt_100-5-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-5 SETTING=overlap METHOD=ILT
. "$(dirname "$0")/../launch.sh"
