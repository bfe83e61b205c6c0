#!/usr/bin/env bash
# Makes the virtual environment of the PyTorch peers once, and prints the path of its Python on stdout (progress goes to stderr).
# It lies in flatmin's cache folder, takes about 5 GB (the wheel needs its CUDA libraries even on a CPU), and is brought up to date when requirements.txt changes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${FLATMIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flatmin}
venv=$cache/peers-venv
python=${PYTHON:-python3}
# Written last: a venv without it is one whose installation was cut short.
stamp=$venv/requirements.installed

if ! cmp -s "$here/requirements.txt" "$stamp"; then
  if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >&2; then
    echo "peers: '$python' must be Python 3.10 or newer with the venv module (Debian: apt install python3-venv); set PYTHON to another one" >&2
    exit 1
  fi
  mkdir -p "$cache"
  exec 9>"$cache/peers-venv.lock"
  if command -v flock >&2; then flock 9; fi
  if ! cmp -s "$here/requirements.txt" "$stamp"; then
    echo "peers: installing PyTorch in $venv" >&2
    # What is there stays: pip adds and changes what the requirements ask for.
    if ! "$venv/bin/python" -m pip --version >&2; then "$python" -m venv --clear "$venv" >&2; fi
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$stamp"
  fi
fi
echo "$venv/bin/python"
