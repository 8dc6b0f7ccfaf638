#!/bin/sh
# RCIL on Cityscapes, city by city, task 11-1: sh scripts/cityscapes_domain/rcil_11-1.sh [--test] [run.py options]
exec sh "$(dirname "$0")/../train.sh" RCIL cityscapes_domain 11-1 "$@"
