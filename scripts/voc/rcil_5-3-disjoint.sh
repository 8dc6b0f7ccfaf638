#!/bin/sh
# RCIL on Pascal VOC, task 5-3, disjoint setting: sh scripts/voc/rcil_5-3-disjoint.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 5-3 disjoint "$@"
