#!/bin/sh
# The whole test suite, after setting up all that it needs: sh scripts/test.sh [pytest options]
# It uses all cores; -n 0 uses one process. INPLACE_ABN=1 builds the compiled norm first, and the tests compare with it.
REQUIREMENTS=requirements-dev.txt
. "$(dirname "$0")/setup.sh"
if [ "${INPLACE_ABN:-0}" = 1 ]; then sh scripts/install_inplace_abn.sh || exit 1; fi
exec python -m pytest -n auto --dist loadfile "$@"
