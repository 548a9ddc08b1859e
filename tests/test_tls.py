"""A secured GX: a pinned self-signed certificate, a password, and how they do not fit."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from house import Broker, House, Peer, Result, free_port
from test_faults import AT, BUSY, NOTHING, RED, ended_well, failed, way

PASSWORD = "Sésame, ouvre-toi"


def certificate(path: Path, first: int = -1, last: int = 3650, basic: bool = True) -> Path:
    """A self-signed certificate as a GX makes one, valid for these days; its .key beside."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "venus.local")])
    now = datetime.now(UTC)
    start, end = now + timedelta(first), now + timedelta(last)
    number = x509.random_serial_number()
    builder = x509.CertificateBuilder(name, name, key.public_key(), number, start, end)
    if basic:
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return path


class Secured(House):
    """The eve of a red day with a GX that wants a password, and TLS unless `tls` is false."""

    def __init__(self, folder: Path, tls: bool = True, gx: bool = True, **shape: Any) -> None:
        cert = certificate(folder / "gx.crt", **shape)
        users = folder / "users"
        program = shutil.which("mosquitto_passwd", path=os.environ["PATH"] + ":/usr/local/bin")
        assert program
        users.touch(0o600)
        for user in ("gx", "tempo_ess"):  # a GX takes any name but an empty one
            subprocess.run([program, "-b", users, user, PASSWORD], check=True)
        listener = f"certfile {cert}\nkeyfile {cert.with_suffix('.key')}" if tls else ""
        access = "allow_anonymous false", f"password_file {users}"
        broker = Broker(folder, *access, listener=listener)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        options = {"password": PASSWORD} | ({"context": context} if tls else {})
        super().__init__(folder, broker, gx, **(options if gx else {}))
        self.meter("BLEU", "ROUGE", "HC")
        self.names["gxpassword"] = PASSWORD
        if tls:
            self.names |= {"gxtls": True, "gxcert": "gx.crt"}

    def evening(
        self, scale: float = 1, limits: dict[str, float] | None = None, **changes: Any
    ) -> Result:
        """The 22:02 run with these changes to secret.py, saying all but the password."""
        self.secret(**changes)
        result = self.run("--verbose", at=AT, scale=scale, limits=limits)
        said = result.text + "".join(push["description"] for push in self.internet.pushes)
        assert PASSWORD not in said
        assert ascii(PASSWORD)[1:-1] not in said
        return result

    def tries(self) -> int:
        """How many connections the broker has had, up to one of ours that is not counted."""
        with socket.create_connection(("127.0.0.1", self.broker.port)) as probe:
            self.broker.wait_log(rf"New connection from 127.0.0.1:{probe.getsockname()[1]} ")
        # "Client connection ... failed": a certificate refused before mosquitto was done accepting
        begins = re.compile("New connection from|Client connection")
        return sum(bool(begins.search(line)) for line in self.broker.lines) - 1


Build = Callable[..., Secured]


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Build]:
    """Builds the secured house."""
    built: list[Secured] = []

    def build(**shape: Any) -> Secured:
        built.append(Secured(tmp_path, **shape))
        return built[0]

    yield build
    for house in built:
        house.close()


SHAPES: dict[str, dict[str, bool]] = {
    "Secured": {},
    "Secured, a certificate without basicConstraints": {"basic": False},
    "Weak: a password without TLS": {"tls": False},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_secured_gx_is_set_and_confirmed(secured: Build, shape: dict[str, bool]) -> None:
    house = secured(**shape)
    result = house.evening()
    assert result.code == 0, result.text
    assert house.gx.profile() == RED
    assert len(house.gx.writes) == 3
    assert house.evening().code == 0
    assert len(house.gx.writes) == 3
    logins = [line for line in house.broker.lines if " as tempo_ess-" in line]
    assert len(logins) == 2
    for line in logins:  # MQTT 3.1.1, clean session, a user name
        assert re.search(r"\(p2, c1, k\d+, u'.+'\)", line)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_relative_gxcert_is_relative_to_secret_py(secured: Build, absolute: bool) -> None:
    house = secured()
    cert = (house.folder / "gx.crt").rename(house.folder / "venus.crt")
    assert house.evening(gxcert=str(cert) if absolute else cert.name).code == 0


# ---- What does not fit ---------------------------------------------------------------------------

WRONG = "Sésame, ferme-toi"
Misfits = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # the GX, secret.py
CERTIFICATES: Misfits = {
    "another certificate": ({}, {"gxcert": "other.crt"}),
    "an expired certificate": ({"first": -30, "last": -1}, {}),
    "a certificate not valid yet": ({"first": 1}, {}),
}
PASSWORDS: Misfits = {
    "a wrong password": ({}, {"gxpassword": WRONG}),
    "no password without TLS": ({"tls": False}, {"gxpassword": None}),
}


@pytest.mark.parametrize(("shape", "changes"), CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_that_does_not_match_is_exit_4_at_the_first_try(
    secured: Build, shape: dict[str, Any], changes: dict[str, Any]
) -> None:
    house = secured(gx=False, **shape)
    certificate(house.folder / "other.crt")
    result = house.evening(scale=0.1, **changes)
    command = f"openssl s_client -connect 127.0.0.1:{house.broker.port} "
    failed(house, result, 4, "gxcert.*renouvelé.*horloge", re.escape(command), NOTHING)
    assert house.tries() == 1


@pytest.mark.parametrize(("shape", "changes"), PASSWORDS.values(), ids=PASSWORDS)
def test_a_refused_login_is_tried_again_until_the_time_is_over(
    secured: Build, shape: dict[str, Any], changes: dict[str, Any]
) -> None:
    """A GX that is starting refuses the right password too [FACTS.md]."""
    house = secured(gx=False, **shape)
    start = time.monotonic()
    result = house.evening(limits={"GX_CONNECT": 3, "CONNECT_PAUSE": 0.5}, **changes)
    spent = time.monotonic() - start
    failed(house, result, 4, "gxpassword", "MQTT access : On", "Paired devices only", NOTHING)
    assert house.tries() > 2
    assert 2 < spent < 3 + BUSY
    assert WRONG not in result.text + str(house.internet.pushes)


def test_a_gx_that_refuses_the_right_password_while_it_starts_ends_well(house: House) -> None:
    """It takes up to 6 s of the 10 s that a try may last, here the first two [FACTS.md]."""
    scale = 0.1
    through = way(house.broker.port, "nothing is cut")

    def starting(link: socket.socket, earlier: int) -> None:
        if earlier > 1:
            through(link, earlier)
            return
        link.recv(4096)
        threading.Event().wait(6 * scale)
        link.sendall(bytes([0x20, 2, 0, 4 + earlier]))  # CONNACK: bad password, not authorized
        link.recv(4096)

    peer = Peer(starting)
    house.meter("BLEU", "ROUGE", "HC")
    house.secret(gxport=peer.port, gxpassword=PASSWORD)
    ended_well(house, house.gx, house.run(at=AT, scale=scale))
    assert peer.connections == 3


def test_no_way_in_on_1883_names_the_profile_secured(house: House) -> None:
    house.secret(gxport=free_port())
    failed(house, house.run(at=AT, scale=0.01), 4, "profil Secured.*gxtls", NOTHING)


@pytest.mark.parametrize("tls", [True, False], ids=["plain against TLS", "TLS against plain"])
def test_tls_on_one_side_only_is_exit_4(secured: Build, tls: bool) -> None:
    house = secured(tls=tls, gx=False)
    result = house.evening(scale=0.03, gxtls=not tls, gxcert="gx.crt")
    failed(house, result, 4, "GX injoignable", NOTHING)
    assert house.tries() > 1


GXCERT: dict[str, tuple[Any, bytes | None]] = {  # gxcert, the file's content
    "missing": (None, None),
    "empty": ("", None),
    "absent": ("gx.pem", None),
    "a folder": (".", None),
    "not PEM": ("gx.pem", b"\x30\x82\x01\x0a" * 100),
    "cut short": ("gx.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
    "not text": (8883, None),
}


@pytest.mark.parametrize(("gxcert", "content"), GXCERT.values(), ids=GXCERT)
def test_a_bad_gxcert_is_exit_2_before_anything_is_contacted(
    house: House, gxcert: Any, content: bytes | None
) -> None:
    if content is not None:
        (house.folder / "gx.pem").write_bytes(content)
    house.secret(gxtls=True, gxcert=gxcert, gxpassword=PASSWORD)
    result = house.run()
    assert result.code == 2
    assert "gxcert" in result.err
    assert ("openssl" in result.err) == (gxcert != 8883)
    assert "Traceback" not in result.text
    assert PASSWORD not in result.text
    assert not house.eco.requests
    assert not house.internet.connects
    assert "tempo_ess-" not in "".join(house.broker.lines)
