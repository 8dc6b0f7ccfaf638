#!/bin/sh
# MiB on ADE20K, task 100-50, overlapped setting: sh scripts/ade/mib_100-50-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-50 SETTING=overlap METHOD=MiB
. "$(dirname "$0")/../launch.sh"
