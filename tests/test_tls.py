"""A secured GX: a pinned self-signed certificate, a password, and how they do not fit."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from house import Broker, House, HttpPeer, Peer
from test_faults import AT, BUSY, NOTHING, RED, failed, say

import tempo_ess

PASSWORD = "Sésame, ouvre-toi"


def certificate(path: Path, first: int = -1, last: int = 3650) -> ssl.SSLContext:
    """A self-signed certificate like a GX's, valid for these days, its .key beside; its server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "venus.local")])
    now = datetime.now(UTC)
    start, end = now + timedelta(first), now + timedelta(last)
    number = x509.random_serial_number()
    builder = x509.CertificateBuilder(name, name, key.public_key(), number, start, end)
    signed = builder.sign(key, hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, path.with_suffix(".key"))
    return server


# The user and the password in secret.py, and what the broker must get.
TOKEN = "token/tempo/tempo-ess"
LOGINS = {
    "Secured": ({"gxpassword": PASSWORD, "gxtls": True}, "tempo_ess", PASSWORD),
    "Weak: a password without TLS": ({"gxpassword": PASSWORD}, "tempo_ess", PASSWORD),
    "a token": ({"gxuser": TOKEN, "gxpassword": "s3cret", "gxtls": True}, TOKEN, "s3cret"),
}


@pytest.mark.parametrize(("names", "user", "password"), LOGINS.values(), ids=LOGINS)
def test_a_gx_with_a_login_is_set_and_confirmed(
    tmp_path: Path, names: dict[str, Any], user: str, password: str
) -> None:
    """The broker takes this user with this password only (and the GX itself)."""
    certificate(tmp_path / "gx.crt")
    users = tmp_path / "users"
    users.touch(0o600)
    program = shutil.which("mosquitto_passwd", path=os.environ["PATH"] + ":/usr/local/bin")
    assert program
    for name, its_password in (("gx", PASSWORD), (user, password)):
        subprocess.run([program, "-b", users, name, its_password], check=True)
    tls = "gxtls" in names
    listener = f"certfile {tmp_path}/gx.crt\nkeyfile {tmp_path}/gx.key" if tls else ""
    access = "allow_anonymous false", f"password_file {users}"
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.load_verify_locations(tmp_path / "gx.crt")
    broker = Broker(tmp_path, *access, listener=listener)
    context = trusting if tls else None
    with closing(House(tmp_path, broker, password=PASSWORD, context=context)) as house:
        house.meter("BLEU", "ROUGE", "HC")
        house.secret(gxcert="gx.crt", **names)
        result = house.run("--verbose", at=AT, scale=0.2)
        assert result.code == 0, result.text
        assert house.gx.profile() == RED
        assert password not in result.text


def test_what_is_missing_of_a_login_is_empty_but_the_user(house: House) -> None:
    """A house broker may want a user alone; Venus up to 3.31 refuses an empty one."""
    logins: list[tuple[dict[str, Any], bytes]] = [({"gxuser": "maison"}, b"\x00\x06maison\x00\x00")]
    logins.append(({"gxpassword": "s3cret"}, b"\x00\x09tempo_ess\x00\x06s3cret"))
    for names, login in logins:
        told: list[bytes] = []

        def listen(link: socket.socket, _earlier: int, told: list[bytes] = told) -> None:
            told.append(link.recv(4096))

        house.secret(gxport=Peer(listen).port, **names)
        assert house.run("--no-notify", at=AT, scale=0.01).code == 4
        assert told[0].endswith(login), "the end of a CONNECT packet"


# ---- What does not fit ---------------------------------------------------------------------------


def test_a_mute_tls_peer_is_out_of_reach_within_the_limit(house: House) -> None:
    certificate(house.folder / "gx.crt")
    house.secret(gxtls=True, gxcert="gx.crt", gxport=Peer(say()).port)
    start = time.monotonic()
    result = house.run(at=AT, limits={"GX_WORK": 1, "CONNECT_TRY": 0.5, "CONNECT_PAUSE": 0.6})
    assert time.monotonic() - start < 1 + BUSY
    failed(house, result, 4, "pas de réponse à temps")


CERTIFICATES = {  # the days of the GX's certificate, the one that is pinned
    "another certificate": (-1, 3650, "other.crt"),
    "an expired certificate": (-30, -1, "gx.crt"),
    "a certificate not valid yet": (1, 3650, "gx.crt"),
}


@pytest.mark.parametrize(("first", "last", "pinned"), CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_that_does_not_match_is_exit_4_at_the_first_try(
    house: House, first: int, last: int, pinned: str
) -> None:
    certificate(house.folder / "other.crt")
    peer = HttpPeer(lambda request: b"", certificate(house.folder / "gx.crt", first, last))
    house.secret(gxport=peer.port, gxtls=True, gxcert=pinned)
    public = {"SSL_CERT_FILE": str(house.folder / "gx.crt")}  # even if a public CA vouches for it
    result = house.run(at=AT, scale=0.1, env=public)
    command = f"openssl s_client -connect 127.0.0.1:{peer.port} "
    failed(house, result, 4, "gxcert.*renouvelé.*horloge", re.escape(command), NOTHING)
    assert peer.connections == 1


def test_a_gx_without_tls_is_out_of_reach_with_gxtls_and_tried_again(house: House) -> None:
    certificate(house.folder / "gx.crt")
    peer = Peer(say(b"no handshake"))
    house.secret(gxport=peer.port, gxtls=True, gxcert="gx.crt")
    result = house.run(at=AT, scale=0.02)
    failed(house, result, 4, "injoignable", NOTHING)
    assert "gxtls" not in result.err
    assert peer.connections > 1


def test_a_gx_that_resets_the_connection_after_the_handshake_is_tried_again(house: House) -> None:
    """It is gone before CONNECT is sent: TLS 1.2 ends its handshake with the server's word."""
    server = certificate(house.folder / "gx.crt")
    server.maximum_version = ssl.TLSVersion.TLSv1_2

    def reset(link: socket.socket, _earlier: int) -> None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wrap_socket(link, server_side=True).close()

    peer = Peer(reset)
    house.secret(gxport=peer.port, gxtls=True, gxcert="gx.crt")
    failed(house, house.run(at=AT, scale=0.02), 4, "injoignable", NOTHING)
    assert peer.connections > 1


@pytest.mark.parametrize("connack", [4, 5], ids=["bad password", "not authorized"])
def test_a_refused_login_is_tried_again_until_the_time_is_over(house: House, connack: int) -> None:
    """Refused after 6 of the 10 s that a try may last, as a starting GX does too [FACTS.md]."""

    def refuse(link: socket.socket, _earlier: int) -> None:
        link.recv(4096)
        threading.Event().wait(6 / 20)
        link.sendall(bytes([0x20, 2, 0, connack]))
        link.recv(4096)

    peer = Peer(refuse)
    house.secret(gxport=peer.port, gxpassword=PASSWORD)
    limits = {"GX_WORK": 2, "CONNECT_TRY": tempo_ess.CONNECT_TRY / 20, "CONNECT_PAUSE": 0.3}
    start = time.monotonic()
    result = house.run("--verbose", at=AT, limits=limits)
    assert 1 < time.monotonic() - start < 2 + BUSY
    failed(house, result, 4, "gxpassword", "MQTT access : On", "Paired devices only", NOTHING)
    assert peer.connections > 2
    assert PASSWORD not in result.text + str(house.internet.pushes)
