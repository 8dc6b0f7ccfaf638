#!/bin/sh
# Pascal VOC 2012 with the masks of SBD, 3.4 GB to fetch: sh data/download_voc.sh [FOLDER]. See data/README.md.
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py voc "${1:-data/voc}"
