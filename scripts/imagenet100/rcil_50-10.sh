#!/bin/sh
# RCIL on ImageNet-100, task 50-10, classification: sh scripts/imagenet100/rcil_50-10.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL imagenet100 50-10 "$@"
