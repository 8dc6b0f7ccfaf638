#!/bin/sh
# Pascal VOC 2012 with the masks of SBD: sh data/download_voc.sh [FOLDER]
# 3.4 GB to fetch, 1.5 GB that stay. FOLDER is data/voc of the checkout unless given.
# What was cut off goes on. Variables for mirrors and more: data/README.md
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py voc "${1:-data/voc}"
