#!/bin/sh
# ADE20K of the scene parsing challenge 2016, 1 GB to fetch: sh data/download_ade.sh [FOLDER]. See data/README.md.
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py ade "${1:-data/ade}"
