#!/bin/sh
# ADE20K of the scene parsing challenge 2016: sh data/download_ade.sh [FOLDER]
# 1 GB to fetch, 1.1 GB that stay. FOLDER is data/ade of the checkout unless given.
# What was cut off goes on. Variables for mirrors and more: data/README.md
case ${1:-} in [!/-]*) set -- "$PWD/$1" ;; esac
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download.py ade "${1:-data/ade}"
