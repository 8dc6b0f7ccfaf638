#!/bin/sh
# CamVid as the SegNet tutorial has it: sh data/download_camvid.sh [FOLDER]. See data/README.md.
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py camvid "${1:-data/camvid}"
