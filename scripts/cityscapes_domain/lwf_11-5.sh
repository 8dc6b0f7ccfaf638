#!/bin/sh
# LWF on Cityscapes, city by city, task 11-5: sh scripts/cityscapes_domain/lwf_11-5.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=11-5 SETTING= METHOD=LWF
. "$(dirname "$0")/../launch.sh"
