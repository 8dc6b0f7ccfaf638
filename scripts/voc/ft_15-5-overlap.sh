#!/bin/sh
# FT on Pascal VOC, task 15-5, overlapped setting: sh scripts/voc/ft_15-5-overlap.sh [--test] [run.py options]
DATASET=voc TASK=15-5 SETTING=overlap METHOD=FT
. "$(dirname "$0")/../launch.sh"
