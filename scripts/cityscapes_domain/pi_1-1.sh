#!/bin/sh
# PI on Cityscapes, city by city, task 1-1: sh scripts/cityscapes_domain/pi_1-1.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=1-1 SETTING= METHOD=PI
. "$(dirname "$0")/../launch.sh"
