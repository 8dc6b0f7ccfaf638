#!/bin/sh
# RCIL on Pascal VOC, task 15-5, overlapped setting: sh scripts/voc/rcil_15-5-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL voc 15-5 overlap "$@"
