#!/bin/sh
# LWF-MC on ADE20K, task 50-50, overlapped setting: sh scripts/ade/lwf-mc_50-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=50-50 SETTING=overlap METHOD=LWF-MC
. "$(dirname "$0")/../launch.sh"
