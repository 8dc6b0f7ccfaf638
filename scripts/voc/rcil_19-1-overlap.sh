#!/bin/sh
# RCIL on Pascal VOC, task 19-1, overlapped setting: sh scripts/voc/rcil_19-1-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 19-1 overlap "$@"
