#!/bin/sh
# RCIL on Cityscapes, city by city, task 11-5: sh scripts/cityscapes_domain/rcil_11-5.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL cityscapes_domain 11-5 "$@"
