#!/bin/sh
# Build the compiled norm, inplace-abn, into the environment: sh scripts/install_inplace_abn.sh
# It is optional: without it a norm in plain PyTorch gives the same numbers. It needs a C++ compiler, for a GPU also nvcc:
#   CUDA_HOME=/usr/local/cuda LIBRARY_PATH=$CUDA_HOME/lib64 TORCH_CUDA_ARCH_LIST=9.0 sh scripts/install_inplace_abn.sh
# FORCE_CUDA=1 builds for a GPU where none is to be seen.
. "$(dirname "$0")/setup.sh"
python -c "import inplace_abn._backend" 2>/dev/null && exit 0
echo "building inplace-abn 1.1.0 (once; about two minutes)"
# Its setup.py asks for setuptools-scm while it runs, and has to find torch in this environment.
python -m pip install --quiet --disable-pip-version-check setuptools wheel setuptools-scm ninja || exit 1
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-binary :all: \
    --dest "$work" inplace-abn==1.1.0 || exit 1
tar -xzf "$work"/inplace*abn-1.1.0.tar.gz -C "$work" && cd "$work"/inplace*abn-1.1.0 || exit 1
# It would build for CUDA wherever torch was built with CUDA. It is needed only where there is a GPU.
python - <<'PY' > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
import os
import runpy
import sys

import torch

torch.has_cuda = torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1"
sys.argv = ["setup.py", "bdist_wheel", "--dist-dir", ".."]
runpy.run_path("setup.py", run_name="__main__")
PY
python -m pip install --quiet --disable-pip-version-check --no-deps "$work"/*.whl
