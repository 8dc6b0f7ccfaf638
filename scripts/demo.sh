#!/bin/sh
# The whole system on the shapes data set, on two CPU cores: sh scripts/demo.sh [compare]
# Task 15-1 overlapped, all 6 steps, through the very code that Pascal VOC takes; `compare` trains FT beside RCIL.
# SEED=43 takes another seed, VENV=DIR another environment. What is finished is not run again: delete demo/ for that.
case ${1:-} in
    compare) set -- FT RCIL ;;
    *) set -- RCIL ;;
esac
OUT=demo SEEDS=${SEED:-42} exec sh "$(dirname "$0")/compare.sh" "$@"
