#!/bin/sh
# RCIL on ADE20K, task 100-5, overlapped setting: sh scripts/ade/rcil_100-5-overlap.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL ade 100-5 overlap "$@"
