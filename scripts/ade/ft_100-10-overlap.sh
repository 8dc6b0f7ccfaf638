#!/bin/sh
# FT on ADE20K, task 100-10, overlapped setting: sh scripts/ade/ft_100-10-overlap.sh [--test] [run.py options]
DATASET=ade TASK=100-10 SETTING=overlap METHOD=FT
. "$(dirname "$0")/../launch.sh"
