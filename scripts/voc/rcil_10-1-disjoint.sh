#!/bin/sh
# RCIL on Pascal VOC, task 10-1, disjoint setting: sh scripts/voc/rcil_10-1-disjoint.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 10-1 disjoint "$@"
