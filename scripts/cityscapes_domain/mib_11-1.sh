#!/bin/sh
# MiB on Cityscapes, city by city, task 11-1: sh scripts/cityscapes_domain/mib_11-1.sh [--test] [run.py options]
DATASET=cityscapes_domain TASK=11-1 SETTING= METHOD=MiB
. "$(dirname "$0")/../launch.sh"
