#!/usr/bin/env bash
# Makes the virtual environment of the PyTorch peers once, and prints the path of its Python on stdout (progress goes to stderr).
# It lies in flatmin's cache folder, takes about 5 GB (the wheel needs its CUDA libraries even on a CPU), and is brought up to date when requirements change.
# FLATMIN_PEERS_PYTHON names a Python that has all of it already, on a machine without a network: it is taken as it is.
# `venv.sh models` adds the libraries whose models flatmin's are compared with. `venv.sh onnx` makes another environment instead, a small
# one without PyTorch, which runs exported ONNX files.
set -euo pipefail

if [ -n "${FLATMIN_PEERS_PYTHON:-}" ] && [ "${1:-}" != onnx ]; then
  if ! "$FLATMIN_PEERS_PYTHON" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' >&2; then
    echo "peers: FLATMIN_PEERS_PYTHON is '$FLATMIN_PEERS_PYTHON', which has no torch" >&2
    exit 1
  fi
  echo "$FLATMIN_PEERS_PYTHON"
  exit
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${FLATMIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flatmin}
venv=$cache/peers-venv
python=${PYTHON:-python3}

install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -r "$1" >&2; }

# A stamp is written last: without it the installation was cut short.
is_installed() { cmp -s "$1" "$venv/$(basename "$1" .txt).installed"; }
stamp() { cp "$1" "$venv/$(basename "$1" .txt).installed"; }

wanted=("$here/requirements.txt")
case ${1:-} in
  models) wanted+=("$here/../../__test__/goldens/requirements-models.txt") ;;
  onnx) venv=$cache/onnx-venv wanted=("$here/../../__test__/onnx/requirements.txt") ;;
esac

for requirements in "${wanted[@]}"; do
  if is_installed "$requirements"; then continue; fi
  if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >&2; then
    echo "peers: '$python' must be Python 3.10 or newer with the venv module (Debian: apt install python3-venv); set PYTHON to another one" >&2
    exit 1
  fi
  mkdir -p "$cache"
  exec 9>"$cache/peers-venv.lock"
  if command -v flock >&2; then flock 9; fi
  if ! is_installed "$requirements"; then
    echo "peers: installing $(basename "$requirements") in $venv" >&2
    # What is there stays: pip adds and changes what the requirements ask for.
    if ! "$venv/bin/python" -m pip --version >&2; then "$python" -m venv --clear "$venv" >&2; fi
    install "$requirements"
    stamp "$requirements"
  fi
done
echo "$venv/bin/python"
