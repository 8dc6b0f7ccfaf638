#!/bin/sh
# ImageNet weights, resnet101_iabn_sync unless named: sh pretrained/download.sh [NAME ...]. See pretrained/README.md.
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
[ $# -gt 0 ] || set -- resnet101_iabn_sync
exec python tools/download.py weights "$@"
