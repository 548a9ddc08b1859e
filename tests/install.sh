# Read by run.sh and demo.sh: what they need, each thing only when it is not there yet.
mosquitto_is_new=no

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# system_install DEBIAN_PACKAGE FREEBSD_PACKAGE
system_install() {
    if command -v apt-get >/dev/null; then
        echo "Installation de : $1"
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$1" >/dev/null
    else
        echo "Installation de : $2"
        as_root pkg install -y "$2"
    fi
}

need_mosquitto() {
    if ! (PATH="$PATH:/usr/sbin:/usr/local/sbin" && command -v mosquitto >/dev/null); then
        system_install mosquitto mosquitto
        mosquitto_is_new=yes
    fi
}

need_venv() {
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
            system_install python3-venv python3
        fi
        python3 -m venv --clear .venv
    fi
}

pip_install() {
    echo "Installation de paquets Python dans .venv..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

say_what_was_installed() {
    if [ "$mosquitto_is_new" = yes ]; then
        echo
        echo "mosquitto vient d'être installé. Debian le démarre aussitôt ; pour l'arrêter :"
        echo "    sudo systemctl disable --now mosquitto"
    fi
}
