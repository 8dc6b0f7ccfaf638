#!/bin/sh
# EWC on Cityscapes, city by city, task 11-5: sh scripts/cityscapes_domain/ewc_11-5.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=11-5 SETTING= METHOD=EWC
. "$(dirname "$0")/../launch.sh"
