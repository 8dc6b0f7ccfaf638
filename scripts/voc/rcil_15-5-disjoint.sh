#!/bin/sh
# RCIL on Pascal VOC, task 15-5, disjoint setting: sh scripts/voc/rcil_15-5-disjoint.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 15-5 disjoint "$@"
