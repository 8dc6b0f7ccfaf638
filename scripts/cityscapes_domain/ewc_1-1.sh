#!/bin/sh
# EWC on Cityscapes, city by city, task 1-1: sh scripts/cityscapes_domain/ewc_1-1.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=1-1 SETTING= METHOD=EWC
. "$(dirname "$0")/../launch.sh"
