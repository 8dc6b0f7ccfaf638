# Sourced by the other scripts: goes to the checkout, makes its .venv from REQUIREMENTS, and puts it on the PATH.
# VENV=DIR is another folder for it. Nothing is installed if the environment is there and the list has not changed.
# LOCK=1 takes the versions of requirements-lock.txt, which were tested together, instead of the newest that fit.
# TORCH=cpu takes PyTorch without the packages of CUDA, for machines without a GPU; TORCH_INDEX=URL is a mirror of its index.
# A script that was copied out of the checkout says where that is: CHECKOUT=DIR.
cd "${CHECKOUT:-$(dirname "$0")}" && while [ ! -f requirements.txt ]; do
    [ "$PWD" != / ] || { echo "error: $0 lies in no checkout; say where that is with CHECKOUT=DIR" >&2; exit 2; }
    cd ..
done
REQUIREMENTS=${REQUIREMENTS:-requirements.txt}
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}

# All lists that the environment depends on: also those that REQUIREMENTS includes.
wanted="$REQUIREMENTS $(sed -n 's/^-r //p' "$REQUIREMENTS")"
lists="requirements.txt $wanted"
locked=
if [ "${LOCK:-0}" = 1 ]; then
    lists="$lists requirements-lock.txt"
    locked="-c requirements-lock.txt"
fi
stamp="$VENV/$REQUIREMENTS.installed"
if ! cat $lists | cmp -s - "$stamp"; then
    echo "setting up $VENV for $REQUIREMENTS (once; with torch about two minutes and 6 GB; TORCH=cpu leaves CUDA out)"
    "$PYTHON" -m venv "$VENV" || { echo "error: $PYTHON -m venv failed; install Python 3.10 or newer with venv" >&2; exit 1; }
    set_up() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check $locked "$@"; }
    if [ "${TORCH:-}" = cpu ] && grep -q '^torch' $wanted; then
        # First, and from that index alone: what is there then fits the list, and pip leaves it. That index has few
        # versions of what torch depends on, maybe not those of the lock.
        set_up ${locked:+--no-deps} --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" \
            $(grep -h '^torch' requirements.txt) || exit 1
    fi
    set_up -r "$REQUIREMENTS" || exit 1
    cat $lists > "$stamp"
fi
PATH="$(cd "$VENV" && pwd)/bin:$PATH"
export PATH
