#!/bin/sh
# MiB on ADE20K, task 50-50, overlapped setting: sh scripts/ade/mib_50-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=50-50 SETTING=overlap METHOD=MiB
. "$(dirname "$0")/../launch.sh"
