#!/bin/sh
# PLOP on Cityscapes, city by city, task 1-1: sh scripts/cityscapes_domain/plop_1-1.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=1-1 SETTING= METHOD=PLOP
. "$(dirname "$0")/../launch.sh"
