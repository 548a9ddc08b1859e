#!/bin/sh
# Everything that the project promises, checked: ruff, mypy --strict, all tests. Installs what it needs.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
