#!/bin/sh
# An evening of the main job, Bleu -> Rouge, against a test mosquitto and simulated devices. Installs what it needs.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh
exec .venv/bin/python -B tests/demo.py
