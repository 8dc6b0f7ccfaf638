#!/bin/sh
# ImageNet weights that a body starts from: sh pretrained/download.sh [NAME ...]
# Without a name, resnet101_iabn_sync, which the published numbers used. What was cut off goes on.
# Names, sources and variables for mirrors: pretrained/README.md
REQUIREMENTS=requirements-data.txt
. "$(dirname "$0")/../scripts/setup.sh"
exec python tools/download_weights.py "$@"
