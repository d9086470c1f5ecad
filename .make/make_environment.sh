#!/bin/sh
# Creates .venv with front end, worker, training, demo and development tools, pinned by constraints.txt.
set -eu

PYTORCH_CPU=https://download.pytorch.org/whl/cpu
PROBE_S=5 # timeout of the probe of a package index

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "no python3 (Debian, Ubuntu: sudo apt-get install python3 python3-venv)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed, this is $(python3 -V)"

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then # Debian has them in a separate package
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing python3-venv from the distribution's packages ..."
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null || true
    fi
    python3 -c 'import ensurepip, venv' 2>/dev/null || fail "no venv module (Debian, Ubuntu: sudo apt-get install python3-venv)"
fi

[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv --clear .venv

pip() {
    .venv/bin/python -m pip --disable-pip-version-check "$@"
}

torch_pin=$(grep '^torch==' constraints.txt)
has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'
}
answers() {
    python3 -c "import urllib.request as u; u.urlopen('$1', timeout=$PROBE_S)" 2>/dev/null
}

# The default wheel includes gigabytes of CUDA libraries, which are useless without an NVIDIA GPU.
if ! has_gpu && ! pip show torch >/dev/null 2>&1; then
    if answers "$PYTORCH_CPU/torch/" && pip install --quiet --no-deps --index-url "$PYTORCH_CPU" "$torch_pin"; then
        echo "Installed $torch_pin for CPUs from $PYTORCH_CPU."
    else
        echo "$PYTORCH_CPU does not respond: installing $torch_pin from the configured index."
    fi
fi

echo "Installing Mien into .venv (the first time takes a few minutes) ..."
pip install --quiet -c constraints.txt -e '.[app,worker,train,demo,dev]'
