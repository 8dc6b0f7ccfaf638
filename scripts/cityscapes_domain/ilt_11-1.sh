#!/bin/sh
# ILT on Cityscapes, city by city, task 11-1: sh scripts/cityscapes_domain/ilt_11-1.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=11-1 SETTING= METHOD=ILT
. "$(dirname "$0")/../launch.sh"
