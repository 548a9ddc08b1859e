"""The EcoDevice: what its fields mean, what it may do, and what hostile bytes cannot do."""

from __future__ import annotations

import base64
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

from tempo_ess import Couleur, NoAnswer, Periode, Tempo, parse_ecodevice

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
CONTRACTS = {
    "TH..": "Base",
    "HC..": "heures creuses",
    "HP..": "heures creuses",
    "HN..": "EJP",
    "PM..": "EJP",
}
# Recorded from a Base contract (FACTS.md), byte for byte.
BASE_BODY = (
    '{"product":"Eco-devices","T1_PTEC":"TH..","T1_PAPP":90,"T1_BASE":1876058,"T2_PTEC":"----","T2_PAPP":0,'
    '"T2_BASE":0,"INDEX_C1":784659,"INDEX_C2":11280}'
)
TEMPO_BODY = json.dumps(RECORDED, separators=(",", ":"))
NO_CODE = [
    "----",
    "",
    "hpjb",
    "HPJB ",
    " HPJB",
    "HPJB\n",
    "HPJ",
    "HPJV",
    "HXJB",
    "JB",
    "TH",
    "\x00\x1b[2J",
    "HPJBHPJB",
]
NOT_TEXT: list[Any] = [None, 0, 1, 1.5, True, False, [], ["HPJB"], {"HPJB": "HPJB"}]
NOT_ANNOUNCED = [
    "----",
    "",
    "BLANC",
    "ROUGE",
    "bleu",
    "Blan",
    "BLEU ",
    " ROUG",
    "ROUG\n",
    "BLE",
    "RED",
    "INST3",
    "ADC",
]
NOT_ANNOUNCED += [
    "INST3\n\x03ADC",
    "\x02BLEU\x03",
    "BLEU\x00",
    "\N{FULLWIDTH LATIN CAPITAL LETTER B}LEU",
    "HPJB",
]


# ---- PTEC and DEMAIN -----------------------------------------------------------------------------


@pytest.mark.parametrize("ecoinput", [1, 2])
@pytest.mark.parametrize("ptec", CODES)
def test_ptec_gives_todays_colour_and_the_period(ptec: str, ecoinput: int) -> None:
    other = {f"T{3 - ecoinput}_PTEC": "HPJW", f"T{3 - ecoinput}_DEMAIN": "ROUG"}
    assert parse_ecodevice(other | {f"T{ecoinput}_PTEC": ptec}, ecoinput) == CODES[ptec]


@pytest.mark.parametrize("ecoinput", [1, 2])
@pytest.mark.parametrize("ptec", NO_CODE + NOT_TEXT, ids=repr)
def test_ptec_that_is_no_code_is_a_failed_ecodevice(ptec: object, ecoinput: int) -> None:
    other = {f"T{3 - ecoinput}_PTEC": "HPJB", f"T{3 - ecoinput}_DEMAIN": "BLEU"}
    for answer in (other | {f"T{ecoinput}_PTEC": ptec}, other, {}):
        with pytest.raises(NoAnswer):
            parse_ecodevice(answer, ecoinput)


@pytest.mark.parametrize("ecoinput", [1, 2])
@pytest.mark.parametrize("demain", ANNOUNCED)
def test_demain_in_its_four_letters_is_tomorrow(demain: str, ecoinput: int) -> None:
    answer = {
        f"T{ecoinput}_PTEC": "HPJW",
        f"T{ecoinput}_DEMAIN": demain,
        f"T{3 - ecoinput}_DEMAIN": "----",
    }
    assert parse_ecodevice(answer, ecoinput) == Tempo(BLANC, ANNOUNCED[demain], HP)


@pytest.mark.parametrize("ptec", ["HPJB", "HCJR"])
@pytest.mark.parametrize("demain", NOT_ANNOUNCED + NOT_TEXT, ids=repr)
def test_any_other_demain_is_not_announced_and_never_bleu(demain: object, ptec: str) -> None:
    for answer in ({"T1_DEMAIN": demain}, {}):
        assert parse_ecodevice(answer | {"T1_PTEC": ptec, "T2_DEMAIN": "BLEU"}, 1) == CODES[ptec]


@pytest.mark.parametrize(("ecoinput", "soc"), [(1, 80), (2, 100)])
def test_ecoinput_chooses_the_meter(house: House, ecoinput: int, soc: int) -> None:
    house.answers |= {
        "T1_PTEC": "HPJB",
        "T1_DEMAIN": "BLEU",
        "T2_PTEC": "HPJW",
        "T2_DEMAIN": "ROUG",
    }
    house.secret(ecoinput=ecoinput)
    assert house.run().code == 0
    assert house.gx
    assert house.gx.values[SOC] == soc


def test_leftovers_with_a_raw_newline_in_demain_keep_todays_colour(house: House) -> None:
    body = TEMPO_BODY.replace('"HPJB"', '"HPJW"').replace(
        '"T1_DEMAIN":"----"', '"T1_DEMAIN":"INST3\n\x03ADC"'
    )
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


@pytest.mark.parametrize("ptec", ["----", "\x1b[31mHPJB", None, 42], ids=repr)
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
    "cut headers": lambda: b"HTTP/1.1 200 OK\r\nConn",
    "empty body": lambda: http(200, ""),
    "cut body": lambda: http(200, TEMPO_BODY[:-1]),
    "body shorter than its Content-Length": lambda: http(200, TEMPO_BODY, "Content-Length: 9999"),
    "HTML": lambda: http(200, "<html><body>Login</body></html>"),
    "a list": lambda: http(200, f"[{TEMPO_BODY}]"),
    "a text": lambda: http(200, '"HPJB"'),
    "null": lambda: http(200, "null"),
    "too deep": lambda: http(200, '{"a":' * 10000),
    "mute": silence,
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_the_third_try_is_enough(house: House, bad: str) -> None:
    replies = iter([BAD_ANSWERS[bad](), BAD_ANSWERS[bad](), http(200, TEMPO_BODY)])
    house.eco.reply = lambda request: next(replies)
    result = house.run(scale=0.2)
    assert (result.code, result.err) == (0, "")
    assert [(one.method, one.target) for one in house.eco.requests] == [
        ("GET", "/api/xdevices.json?cmd=10")
    ] * 3


@pytest.mark.parametrize("bad", ["503", "cut body", "a list"])
def test_there_is_no_fourth_try_and_a_pause_between_the_three(house: House, bad: str) -> None:
    moments: list[float] = []

    def reply(_: object) -> Reply:
        moments.append(time.monotonic())
        return BAD_ANSWERS[bad]()

    house.eco.reply = reply
    result = house.run(scale=0.2)
    assert result.code == 3
    assert len(moments) == 3
    assert min(moments[1] - moments[0], moments[2] - moments[1]) >= 0.2 * 2
    assert house.writes() == []


def test_a_refused_connection_is_tried_three_times(house: House) -> None:
    house.eco.close()
    result = house.run("--verbose", scale=0.2)
    assert result.code == 3
    assert result.out.count("/api/xdevices.json?cmd=10") == 3
    assert house.writes() == []


@pytest.mark.parametrize(
    ("status", "header"),
    [(status, "X: whole body") for status in (204, 301, 302, 307, 308, 400, 401, 403, 404)]
    + [(status, "Content-Length: 9999") for status in (302, 401, 404)],
)
def test_other_http_errors_are_not_tried_again_nor_redirects_followed(
    house: House, status: int, header: str
) -> None:
    elsewhere = HttpPeer(lambda request: http(200, TEMPO_BODY))
    location = f"Location: http://{elsewhere.address}/api/xdevices.json?cmd=10"
    house.eco.reply = lambda request: http(status, TEMPO_BODY, location, header)
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
        ("propriétaire", "mot de passe € \U0001f50b", "propriétaire:mot de passe € \U0001f50b"),
        ("owner", None, None),
        (None, "s3cret!", None),
        ("owner", "", None),
        ("", "s3cret!", None),
    ],
    ids=["both", "not ASCII", "no password", "no user", "empty password", "empty user"],
)
def test_basic_auth_only_when_both_are_set_and_never_from_netrc(
    house: House, user: str | None, password: str | None, sent: str | None
) -> None:
    netrc = house.folder / ".netrc"
    netrc.write_text(
        "machine 127.0.0.1 login stranger password netrc\ndefault login stranger password netrc\n"
    )
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


def chunked(body: str) -> bytes:
    """A chunked answer, in chunks of 7 bytes."""
    pieces = [body[at : at + 7].encode() for at in range(0, len(body), 7)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return http(200, coded, "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "reply",
    [
        chunked(TEMPO_BODY),
        http(200, TEMPO_BODY, length=True),
        http(200, "\ufeff" + TEMPO_BODY),
        http(200, TEMPO_BODY.encode().replace(b"Eco-devices", b"\xff\xe9")),
        http(
            200,
            TEMPO_BODY.replace(
                "Eco-devices", "x" * (64 * 1024 - len(TEMPO_BODY) + len("Eco-devices"))
            ),
        ),
    ],
    ids=["chunked", "Content-Length", "BOM", "not UTF-8", "exactly 64 KiB"],
)
def test_an_unusual_answer_is_still_read(house: House, reply: bytes) -> None:
    house.eco.reply = lambda request: reply
    result = house.run()
    assert (result.code, result.err) == (0, "")


# ---- Bounds --------------------------------------------------------------------------------------

OK_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
ENDLESS: dict[str, Callable[[], Iterable[bytes]]] = {
    "blanks": partial(endless, OK_HEAD + b"\r\n", b" " * 65536),
    "a text": partial(endless, OK_HEAD + b'\r\n{"T1_PTEC":"HPJB","x":"', b"x" * 65536),
    "chunks": partial(endless, OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),
}


@pytest.mark.parametrize("body", ENDLESS)
def test_an_endless_answer_is_left_after_64_kib(house: House, body: str) -> None:
    house.eco.reply = lambda request: ENDLESS[body]()
    house.eco.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    result = house.run(scale=0.2)
    assert result.code == 3
    # The rest is what the kernel takes for its buffers; each answer would have 64 MiB.
    assert house.eco.sent < len(house.eco.requests) * 2 * 2**20
    assert house.writes() == []


@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "no Content-Length"])
def test_an_answer_just_over_64_kib_is_not_read_to_its_end(house: House, length: bool) -> None:
    body = TEMPO_BODY.replace(
        "Eco-devices", "x" * (64 * 1024 - len(TEMPO_BODY) + len("Eco-devices") + 1)
    )
    house.eco.reply = lambda request: http(200, body, length=length)
    assert house.run(scale=0.2).code == 3


DRIPS: dict[str, Callable[[], Iterable[bytes]]] = {
    "mute": silence,
    "a body": partial(drip, OK_HEAD + b'\r\n{"T1_PTEC":"', b"H", 0.05),
    "headers": partial(drip, OK_HEAD + b"X: ", b"x", 0.05),
    "whole headers": partial(drip, OK_HEAD, b"X: x\r\n", 0.05),
    "informational answers": partial(drip, b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "chunks": partial(drip, OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "a redirect": partial(drip, REDIRECT, b" ", 0.05),
    "a 404": partial(drip, b"HTTP/1.1 404 Not Found\r\n\r\n", b" ", 0.05),
}


@pytest.mark.parametrize("pieces", DRIPS)
def test_the_ecodevice_takes_30_seconds_at_most(house: House, pieces: str) -> None:
    house.eco.reply = lambda request: DRIPS[pieces]()
    start = time.monotonic()
    result = house.run("--no-notify", scale=0.05)
    assert result.code == 3
    # The rest is for a slow machine; a drip lasts 200 s.
    assert time.monotonic() - start < 0.05 * 30 + 12
    assert house.writes() == []


# ---- Hostile bytes -------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\N{RIGHT-TO-LEFT OVERRIDE}" + "A" * 300


@pytest.mark.parametrize(
    "reply",
    [
        http(
            200,
            json.dumps(
                {
                    "T1_PTEC": HOSTILE,
                    "T1_DEMAIN": HOSTILE,
                    "values": {HOSTILE: HOSTILE},
                    "x": HOSTILE,
                }
            ),
        ),
        http(200, f'{{"T1_PTEC":"{HOSTILE}","dateJour":"{HOSTILE}","values":"{HOSTILE}"}}'),
        http(200, HOSTILE),
        http(404, HOSTILE, f"Location: {HOSTILE}", f"Set-Cookie: a={HOSTILE}; expires={HOSTILE}"),
        f"HTTP/1.1 500 {HOSTILE}\r\n{HOSTILE}: {HOSTILE}\r\n{HOSTILE}\r\n\r\n".encode(),
        HOSTILE.encode(),
    ],
    ids=["escaped in JSON", "raw in JSON", "body", "headers", "status line", "no HTTP at all"],
)
def test_a_peers_control_characters_never_reach_the_terminal(house: House, reply: bytes) -> None:
    house.eco.reply = house.internet.prowl = lambda request: reply
    house.internet.rte = house.internet.edf = house.internet.api = house.eco.reply
    house.secret(use_api=True)
    result = house.run("--verbose", scale=0.2)
    assert result.code == 3
    assert [
        char for char in result.text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf")
    ] == []
    assert "A" * 41 not in result.text
    assert all("\x1b" not in push["description"] for push in house.internet.pushes)
