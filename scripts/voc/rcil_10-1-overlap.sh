#!/bin/sh
# RCIL on Pascal VOC, task 10-1, overlapped setting: sh scripts/voc/rcil_10-1-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 10-1 overlap "$@"
