#!/bin/sh
# RCIL on ADE20K, task 50-50, overlapped setting: sh scripts/ade/rcil_50-50-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL ade 50-50 overlap "$@"
