#!/bin/sh
# PLOP on ADE20K, task 100-5, overlapped setting: sh scripts/ade/plop_100-5-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-5 SETTING=overlap METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
