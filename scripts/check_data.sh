#!/bin/sh
# Check a data set before training: sh scripts/check_data.sh DATASET ROOT [--task T] [options of tools/check_data.py]
here=$PWD
. "$(dirname "$0")/setup.sh"
checkout=$PWD
cd "$here" && exec python "$checkout/tools/check_data.py" "$@"
