#!/bin/sh
# Cityscapes with fine labels: sh data/download_cityscapes.sh [FOLDER]
# It wants an account: the script says which two zip files to fetch by hand, and sorts them into place (8.5 GB).
# FOLDER is data/cityscapes of the checkout unless given; CITYSCAPES_ZIPS=DIR if the zip files are not in it.
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
case ${CITYSCAPES_ZIPS:-} in [!/]*) CITYSCAPES_ZIPS=$PWD/$CITYSCAPES_ZIPS ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py cityscapes "${1:-data/cityscapes}"
