"""The EcoDevice: what its fields mean, what it may do, and what hostile bytes cannot do."""

from __future__ import annotations

import base64
import errno
import json
import socket
import time
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from gx_simulator import SOC
from house import RECORDED, House, HttpPeer, Reply, drip, endless, http, silence

from tempo_ess import Couleur, NoAnswer, Periode, Tempo, parse_ecodevice, why

BLEU, BLANC, ROUGE = Couleur
HP, HC = Periode
CODES = {
    "HCJB": Tempo(BLEU, None, HC),
    "HPJB": Tempo(BLEU, None, HP),
    "HCJW": Tempo(BLANC, None, HC),
    "HPJW": Tempo(BLANC, None, HP),
    "HCJR": Tempo(ROUGE, None, HC),
    "HPJR": Tempo(ROUGE, None, HP),
}
ANNOUNCED = {"BLEU": BLEU, "BLAN": BLANC, "ROUG": ROUGE}
CONTRACTS = {"TH..": "Base", "HC..": "heures creuses", "HP..": "heures creuses"}
CONTRACTS |= {"HN..": "EJP", "PM..": "EJP"}
# Recorded from a Base contract (FACTS.md), byte for byte.
BASE_BODY = (
    '{"product":"Eco-devices","T1_PTEC":"TH..","T1_PAPP":90,"T1_BASE":1876058,"T2_PTEC":"----","T2_PAPP":0,'
    '"T2_BASE":0,"INDEX_C1":784659,"INDEX_C2":11280}'
)
TEMPO_BODY = json.dumps(RECORDED, separators=(",", ":"))
NO_CODE = ["----", "", "hpjb", "HPJB ", " HPJB", "HPJB\n", "HPJ", "HPJV", "TH", "\x00\x1b[2J"]
NOT_TEXT: list[Any] = [None, 0, 1, 1.5, True, False, [], ["HPJB"], {"HPJB": "HPJB"}]
NOT_ANNOUNCED = ["----", "", "BLANC", "ROUGE", "bleu", "BLEU ", " ROUG", "ROUG\n", "BLE", "RED"]
NOT_ANNOUNCED += ["INST3", "INST3\n\x03ADC", "\x02BLEU\x03", "BLEU\x00", "HPJB"]


# ---- PTEC and DEMAIN -----------------------------------------------------------------------------


@pytest.mark.parametrize("ecoinput", [1, 2])
@pytest.mark.parametrize("demain", [*ANNOUNCED, "----"])
@pytest.mark.parametrize("ptec", CODES)
def test_ptec_is_today_and_the_period_and_demain_is_tomorrow(
    ptec: str, demain: str, ecoinput: int
) -> None:
    other = {f"T{3 - ecoinput}_PTEC": "HPJW", f"T{3 - ecoinput}_DEMAIN": "ROUG"}
    answer = other | {f"T{ecoinput}_PTEC": ptec, f"T{ecoinput}_DEMAIN": demain}
    expected = CODES[ptec]._replace(demain=ANNOUNCED.get(demain))
    assert parse_ecodevice(answer, ecoinput) == expected


@pytest.mark.parametrize("ptec", NO_CODE + NOT_TEXT, ids=repr)
def test_ptec_that_is_no_code_is_a_failed_ecodevice(ptec: object) -> None:
    other = {"T2_PTEC": "HPJB", "T2_DEMAIN": "BLEU"}
    for answer in (other | {"T1_PTEC": ptec}, other, {}):
        with pytest.raises(NoAnswer):
            parse_ecodevice(answer, 1)


@pytest.mark.parametrize("ptec", ["HPJB", "HCJR"])
@pytest.mark.parametrize("demain", NOT_ANNOUNCED + NOT_TEXT, ids=repr)
def test_any_other_demain_is_not_announced_and_never_bleu(demain: object, ptec: str) -> None:
    for answer in ({"T1_DEMAIN": demain}, {}):
        assert parse_ecodevice(answer | {"T1_PTEC": ptec, "T2_DEMAIN": "BLEU"}, 1) == CODES[ptec]


@pytest.mark.parametrize(("ecoinput", "written"), [(1, []), (2, [(SOC, '{"value":100}')])])
def test_ecoinput_chooses_the_meter(house: House, ecoinput: int, written: object) -> None:
    house.meter("BLEU", "BLEU", "HP")
    house.answers |= {"T2_PTEC": "HPJW", "T2_DEMAIN": "ROUG"}
    house.secret(ecoinput=ecoinput)
    assert house.run().code == 0
    assert house.writes() == written


def test_leftovers_with_a_raw_newline_in_demain_keep_todays_colour(house: House) -> None:
    body = TEMPO_BODY.replace("HPJB", "HPJW").replace("----", "INST3\n\x03ADC", 1)
    house.eco.reply = lambda request: http(200, body)
    result = house.run()
    assert result.code == 0
    assert "couleur de demain non annoncée, on garde celle du jour" in result.out
    assert house.writes() == [(SOC, '{"value":90}')]


@pytest.mark.parametrize("ptec", CONTRACTS)
def test_another_contract_is_named_and_the_web_is_not_asked(house: House, ptec: str) -> None:
    house.secret(use_api=True)
    house.eco.reply = lambda request: http(200, BASE_BODY.replace("TH..", ptec))
    result = house.run(at="2026-11-22T20:05")
    assert result.code == 3
    assert CONTRACTS[ptec] in result.err
    assert len(house.eco.requests) == 1
    assert {line.split()[1] for line in house.internet.connects} <= {"api.prowlapp.com:443"}
    assert house.writes() == []
    assert [push["priority"] for push in house.internet.pushes] == ["1"]


@pytest.mark.parametrize("ptec", ["----", "\x1b[31mHPJB", None], ids=repr)
def test_no_tempo_code_is_replaced_by_the_web(house: House, ptec: object) -> None:
    house.answers["T1_PTEC"] = ptec
    house.secret(use_api=True)
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    result = house.run(at="2026-11-22T20:05")
    assert result.code == 0
    assert "EcoDevice" in result.err
    assert house.writes() == [(SOC, '{"value":100}')]


# ---- The device's HTTP ---------------------------------------------------------------------------

BAD_ANSWERS: dict[str, Callable[[], Reply]] = {
    "500": lambda: http(500, TEMPO_BODY),
    "503": lambda: http(503, ""),
    "closed at once": lambda: b"",
    "cut body": lambda: http(200, TEMPO_BODY[:-1]),
    "body shorter than its Content-Length": lambda: http(200, TEMPO_BODY, "Content-Length: 9999"),
    "HTML": lambda: http(200, "<html><body>Login</body></html>"),
    "a list": lambda: http(200, f"[{TEMPO_BODY}]"),
    "mute": silence,
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_the_third_try_is_enough(house: House, bad: str) -> None:
    replies = iter([BAD_ANSWERS[bad](), BAD_ANSWERS[bad](), http(200, TEMPO_BODY)])
    house.eco.reply = lambda request: next(replies)
    result = house.run(scale=0.2)
    assert (result.code, result.err) == (0, "")
    asked = [(one.method, one.target) for one in house.eco.requests]
    assert asked == [("GET", "/api/xdevices.json?cmd=10")] * 3


@pytest.mark.parametrize("bad", ["503", "cut body"])
def test_there_is_no_fourth_try_and_a_pause_between_the_three(house: House, bad: str) -> None:
    moments: list[float] = []

    def reply(_: object) -> Reply:
        moments.append(time.monotonic())
        return BAD_ANSWERS[bad]()

    house.eco.reply = reply
    assert house.run(scale=0.2).code == 3
    assert len(moments) == 3
    assert min(moments[1] - moments[0], moments[2] - moments[1]) >= 0.2 * 2
    assert house.writes() == []


def test_an_address_without_a_device_is_said_in_an_owners_words() -> None:
    """What the kernel says after its own ARP time-out; no test may try a real address."""
    assert why(OSError(errno.EHOSTUNREACH, "No route to host")) == "aucun appareil à cette adresse"


def test_a_refused_connection_is_tried_three_times(house: House) -> None:
    house.eco.close()
    result = house.run("--verbose", scale=0.2)
    assert result.code == 3
    assert result.out.count("/api/xdevices.json?cmd=10") == 3


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 403, 404])
def test_other_http_errors_are_not_tried_again_nor_redirects_followed(
    house: House, status: int
) -> None:
    elsewhere = HttpPeer(lambda request: http(200, TEMPO_BODY))
    location = f"Location: http://{elsewhere.address}/api/xdevices.json?cmd=10"
    house.eco.reply = lambda request: http(status, TEMPO_BODY, location, "Content-Length: 9999")
    result = house.run(scale=0.2)
    elsewhere.close()
    assert result.code == 3
    assert str(status) in result.err
    assert (len(house.eco.requests), elsewhere.requests) == (1, [])
    assert house.writes() == []


@pytest.mark.parametrize(
    ("user", "password", "sent"),
    [
        ("owner", "s3cret!", "owner:s3cret!"),
        ("propriétaire", "mot de passe €", "propriétaire:mot de passe €"),
        ("owner", None, None),
        ("owner", "", None),
        ("", "s3cret!", None),
    ],
)
def test_basic_auth_only_when_both_are_set_and_never_from_netrc(
    house: House, user: str | None, password: str | None, sent: str | None
) -> None:
    netrc = house.folder / ".netrc"
    netrc.write_text("default login stranger password netrc\n")
    netrc.chmod(0o600)
    house.secret(ecouser=user, ecopassword=password)
    result = house.run("--verbose")
    assert result.code == 0
    expected = sent and "Basic " + base64.b64encode(sent.encode()).decode()
    assert [request.headers.get("authorization") for request in house.eco.requests] == [expected]
    assert not password or password not in result.text


def test_proxies_of_the_environment_are_not_used_for_it(house: House) -> None:
    proxy = HttpPeer(lambda request: http(502, ""))
    names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    result = house.run(env=dict.fromkeys(names, f"http://{proxy.address}"))
    proxy.close()
    assert result.code == 0
    assert (len(house.eco.requests), proxy.requests) == (1, [])


# ---- Bounds --------------------------------------------------------------------------------------


def padded(size: int) -> str:
    """A good body of this many bytes."""
    return TEMPO_BODY.replace("Eco-devices", "x" * (size - len(TEMPO_BODY) + len("Eco-devices")))


@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "no Content-Length"])
def test_an_answer_of_64_kib_is_still_read(house: House, length: bool) -> None:
    house.eco.reply = lambda request: http(200, padded(64 * 1024), length=length)
    result = house.run()
    assert (result.code, result.err) == (0, "")


OK_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
CHUNKED = OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LONG: dict[str, Callable[[], Reply]] = {
    "a byte more": lambda: http(200, padded(64 * 1024 + 1)),
    "endless blanks": partial(endless, OK_HEAD + b"\r\n", b" " * 65536),
    "endless chunks": partial(endless, CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
}


@pytest.mark.parametrize("body", TOO_LONG)
def test_an_answer_over_64_kib_is_not_read_to_its_end(house: House, body: str) -> None:
    house.eco.reply = lambda request: TOO_LONG[body]()
    house.eco.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    assert house.run(scale=0.2).code == 3
    # The rest is what the kernel takes for its buffers; each endless answer has 64 MiB.
    assert house.eco.sent < len(house.eco.requests) * 2 * 2**20
    assert house.writes() == []


DRIPS: dict[str, Callable[[], Iterable[bytes]]] = {
    "mute": silence,
    "a body": partial(drip, OK_HEAD + b'\r\n{"T1_PTEC":"', b"H", 0.05),
    "headers": partial(drip, OK_HEAD, b"X: x\r\n", 0.05),
    "informational answers": partial(drip, b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "a 404": partial(drip, b"HTTP/1.1 404 Not Found\r\n\r\n", b" ", 0.05),
}


@pytest.mark.parametrize("pieces", DRIPS)
def test_the_ecodevice_takes_30_seconds_at_most(house: House, pieces: str) -> None:
    house.eco.reply = lambda request: DRIPS[pieces]()
    start = time.monotonic()
    assert house.run("--no-notify", scale=0.05).code == 3
    # The rest is for a slow machine; a drip lasts 200 s.
    assert time.monotonic() - start < 0.05 * 30 + 12
    assert house.writes() == []


# ---- Hostile bytes -------------------------------------------------------------------------------

BAD = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\N{RIGHT-TO-LEFT OVERRIDE}" + "A" * 300
HOSTILE = {
    "escaped": http(200, json.dumps({"T1_PTEC": BAD, "T1_DEMAIN": BAD, "values": {BAD: BAD}})),
    "raw": http(200, f'{{"T1_PTEC":"{BAD}","dateJour":"{BAD}","values":"{BAD}"}}'),
    "headers": http(404, BAD, f"Location: {BAD}", f"Set-Cookie: a={BAD}; expires={BAD}"),
    "status line": f"HTTP/1.1 500 {BAD}\r\n{BAD}: {BAD}\r\n\r\n".encode(),
    "no HTTP at all": BAD.encode(),
}


@pytest.mark.parametrize("place", HOSTILE)
def test_a_peers_control_characters_never_reach_the_terminal(house: House, place: str) -> None:
    house.eco.reply = house.internet.prowl = lambda request: HOSTILE[place]
    house.internet.rte = house.internet.edf = house.internet.api = house.eco.reply
    house.secret(use_api=True)
    result = house.run("--verbose", scale=0.2)
    assert result.code == 3
    said = result.text.replace("\n", "")
    assert not [char for char in said if unicodedata.category(char) in ("Cc", "Cf")]
    assert "A" * 41 not in said
    assert all("\x1b" not in push["description"] for push in house.internet.pushes)
