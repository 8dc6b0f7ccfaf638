#!/bin/sh
# LWF-MC on ADE20K, task 100-50, overlapped setting: sh scripts/ade/lwf-mc_100-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-50 SETTING=overlap METHOD=LWF-MC
. "$(dirname "$0")/../launch.sh"
