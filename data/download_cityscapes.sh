#!/bin/sh
# Cityscapes: sh data/download_cityscapes.sh [FOLDER]. CITYSCAPES_ZIPS=DIR has its two zip files. See data/README.md.
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
case ${CITYSCAPES_ZIPS:-} in [!/]*) CITYSCAPES_ZIPS=$PWD/$CITYSCAPES_ZIPS ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py cityscapes_domain "${1:-data/cityscapes}"
