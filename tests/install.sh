# Read by run.sh and demo.sh: what they need, each thing only when it is not there yet.

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! sudo "$@"; then
        echo "Sans sudo, installez d'abord le nécessaire, puis relancez :"
        echo '    su - -c "apt update && apt install -y mosquitto python3-venv"'
        exit 1
    fi
}

has_mosquitto() {
    (PATH="$PATH:/usr/sbin:/usr/local/sbin" && command -v mosquitto >/dev/null)
}

# Debian's python3 has no venv of its own.
has_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null
}

# system_install DEBIAN_PACKAGE FREEBSD_PACKAGE
system_install() {
    if command -v apt-get >/dev/null; then
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$1" >/dev/null
    else
        as_root pkg install -y "$2"
    fi
}

# Say what is missing, before anything is installed.
say_what_is_missing() {
    missing=""
    if ! has_mosquitto; then missing="$missing mosquitto"; fi
    if [ ! -d .venv ] && ! has_venv; then missing="$missing python3-venv"; fi
    if [ -n "$missing" ]; then
        echo "À installer d'abord, par le gestionnaire de paquets du système :$missing"
    fi
    if [ ! -d .venv ]; then
        echo "À faire d'abord, dans ce dossier seulement : un Python à part, .venv, et ses paquets"
    fi
}

need_mosquitto() {
    if ! has_mosquitto; then
        echo "Installation de mosquitto..."
        system_install mosquitto mosquitto
        # Debian starts it as a service at once; nobody here wants one.
        if [ -d /run/systemd/system ]; then
            as_root systemctl disable --quiet --now mosquitto
        elif [ -x /etc/init.d/mosquitto ]; then
            as_root /etc/init.d/mosquitto stop >/dev/null
            as_root update-rc.d mosquitto disable
        fi
    fi
}

need_venv() {
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        if ! has_venv; then
            echo "Installation de python3-venv..."
            system_install python3-venv python3
        fi
        python3 -m venv --clear .venv
    fi
}

pip_install() {
    echo "Installation de paquets Python dans .venv..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}
