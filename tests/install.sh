# Read by run.sh and demo.sh: mosquitto from the system's packages, and a .venv with what the tests use.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

have_mosquitto() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null && command -v mosquitto_sub >/dev/null
}

if ! have_mosquitto || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Installation de mosquitto et de python3-venv..."
    if command -v apt-get >/dev/null; then
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
            mosquitto mosquitto-clients python3-venv >/dev/null
    else
        as_root pkg install -y mosquitto
    fi
fi

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import sys' 2>/dev/null; then
    python3 -m venv --clear .venv
fi
if ! cmp -s pyproject.toml .venv/installed; then
    echo "Installation des paquets Python dans .venv..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
    cp pyproject.toml .venv/installed
fi
