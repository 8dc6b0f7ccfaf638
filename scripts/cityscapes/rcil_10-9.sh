#!/bin/sh
# RCIL on Cityscapes, class by class, task 10-9: sh scripts/cityscapes/rcil_10-9.sh [--test] [run.py options]
DATASET=cityscape TASK=10-9 SETTING= METHOD=RCIL
. "$(dirname "$0")/../launch.sh"
