#!/bin/sh
# RCIL on ADE20K, task 100-10, overlapped setting: sh scripts/ade/rcil_100-10-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL ade 100-10 overlap "$@"
