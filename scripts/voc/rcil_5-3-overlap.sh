#!/bin/sh
# RCIL on Pascal VOC, task 5-3, overlapped setting: sh scripts/voc/rcil_5-3-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 5-3 overlap "$@"
