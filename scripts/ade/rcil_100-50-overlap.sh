#!/bin/sh
# RCIL on ADE20K, task 100-50, overlapped setting: sh scripts/ade/rcil_100-50-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL ade 100-50 overlap "$@"
