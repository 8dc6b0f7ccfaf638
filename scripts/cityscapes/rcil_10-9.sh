#!/bin/sh
# RCIL on Cityscapes, class by class, task 10-9: sh scripts/cityscapes/rcil_10-9.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL cityscape 10-9 "$@"
