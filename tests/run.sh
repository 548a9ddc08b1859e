#!/bin/sh
# Everything that the project promises, checked: ruff, mypy --strict, all tests. Installs what it needs.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh
say_what_is_missing
need_mosquitto
need_venv
if ! cmp -s pyproject.toml .venv/installed; then
    pip_install --editable '.[test]'
    cp pyproject.toml .venv/installed
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
