#!/bin/sh
# An evening of the main job, Bleu -> Rouge, against a test mosquitto and simulated devices.
# Installs what it needs. With --mqtt every message is shown.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh
say_what_is_missing
need_mosquitto
need_venv
if ! .venv/bin/python -c 'import paho.mqtt.enums, pyprowl, requests, trustme' 2>/dev/null; then
    pip_install 'paho-mqtt>=2.1' requests pyprowl trustme
fi
exec .venv/bin/python -B tests/demo.py "$@"
