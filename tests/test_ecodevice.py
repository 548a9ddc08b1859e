"""The EcoDevice: what its fields mean, and what it may do."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from functools import partial

import pytest
from gx_simulator import MIN_SOC, SOC, STATE
from house import RECORDED, House, Reply, drip, endless, free_port, http, silence

HP = "2026-11-22T20:05"
KEPT = "couleur de demain non annoncée, on garde celle du jour"
CONTRACTS = {"TH..": "Base", "HC..": "heures creuses", "HP..": "heures creuses"}
CONTRACTS |= {"HN..": "EJP", "PM..": "EJP"}
TEMPO_BODY = json.dumps(RECORDED, separators=(",", ":"))
# What stands in the body instead of a code: other texts, and JSON that is no text.
NOT_A_CODE = ["----", "", "hpjb", "HPJB ", " HPJB", "HPJB\n", "HPJ", "HPJV", "TH", "\x00\x1b[2J"]
NOT_A_COLOUR = ["----", "", "BLANC", "ROUGE", "bleu", "BLEU ", " ROUG", "ROUG\n", "BLE", "RED"]
NOT_A_COLOUR += ["INST3", "INST3\n\x03ADC", "\x02BLEU\x03", "BLEU\x00", "HPJB", "\xff\xfe"]
NOT_TEXT = ["null", "0", "1.5", "true", '["BLEU"]', '{"HPJB":"HPJB"}']


OTHER_METER = '"T2_PTEC":"HPJR","T2_DEMAIN":"BLEU"'


def fields(name: str, texts: list[str]) -> list[str]:
    """The field in JSON with each of the texts, raw, then with what is no text, and left out."""
    values = [f'"{text}"' for text in texts] + NOT_TEXT
    return [f'"{name}":{value},' for value in values] + [""]


# ---- PTEC and DEMAIN -----------------------------------------------------------------------------
# What each code and each DEMAIN mean is in test_gx.py, for every evening.


@pytest.mark.parametrize(
    ("ecoinput", "colours", "period"),
    [
        (1, "aujourd'hui BLEU (EcoDevice), demain BLANC (EcoDevice)", "période HP"),
        (2, "aujourd'hui BLANC (EcoDevice), demain ROUGE (EcoDevice)", "période HC"),
    ],
)
def test_ecoinput_chooses_the_meter(house: House, ecoinput: int, colours: str, period: str) -> None:
    house.meter("BLEU", "BLANC", "HP")
    house.answers |= {"T2_PTEC": "HCJW", "T2_DEMAIN": "ROUG"}
    house.secret(ecoinput=ecoinput)
    result = house.run("--dry-run", at="2026-11-22T21:30")
    assert result.code == 0
    assert colours in result.out
    assert period in result.out


@pytest.mark.parametrize("field", fields("T1_PTEC", NOT_A_CODE))
def test_ptec_that_is_no_code_is_a_failed_ecodevice(house: House, field: str) -> None:
    house.eco.reply = lambda request: http(200, "{" + field + OTHER_METER + "}")
    house.secret(use_api=True)
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    result = house.run(at=HP, limits={"ECODEVICE_PAUSE": 0})
    assert result.code == 0
    assert "aujourd'hui BLEU (RTE)" in result.out
    assert house.writes() == [(SOC, '{"value":100}')]
    (warning,) = result.err.splitlines()
    assert "EcoDevice" in warning
    assert "téléinfo débranchée" in warning
    assert "mode historique" in warning
    assert warning in house.push("1")
    assert len(house.eco.requests) == (3 if '"----"' in field else 1)


def test_an_ecodevice_that_has_just_restarted_is_asked_again(house: House) -> None:
    """Its first answer may hold ----."""
    house.meter("BLEU", "ROUGE", "HP")
    starting = http(200, TEMPO_BODY.replace("HPJB", "----"))
    house.eco.reply = lambda request: (
        house.healthy(request) if len(house.eco.requests) > 1 else starting
    )
    assert house.run("--quiet", limits={"ECODEVICE_PAUSE": 0}) == (0, "", "")
    assert house.gx.values[SOC] == 100


@pytest.mark.parametrize("time", ["10:00", "14:30", "20:05", "20:59"])
def test_hc_by_day_is_a_reader_that_froze_and_the_web_stands_in(house: House, time: str) -> None:
    house.meter("BLEU", "BLEU", "HC")
    house.secret(use_api=True)
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    house.gx.values |= {MIN_SOC: 50.0, STATE: 10}
    result = house.run("--quiet", at=f"2026-11-22T{time}")
    assert result.code == 0
    assert "téléinfo figée, ou une horloge fausse ?" in result.err
    assert result.err.strip() in house.push("1" if time > "12:00" else "0")
    charge = 100 if time > "12:00" else 80
    assert house.gx.values[SOC] == charge
    assert [path for path, _ in house.gx.writes] == [SOC] * (charge == 100), "never MinSoc in HP"


def test_a_reader_that_froze_is_exit_3_without_the_web(house: House) -> None:
    house.meter("BLEU", "BLEU", "HC")
    result = house.run("--quiet", at=HP)
    assert result.code == 3
    assert house.gx.questions == []
    assert "téléinfo figée, ou une horloge fausse ?" in house.push("1")


@pytest.mark.parametrize("time", ["21:00", "21:58", "22:02", "00:30", "06:30", "09:59"])
def test_shifted_hours_and_a_late_clock_are_no_frozen_reader(house: House, time: str) -> None:
    house.meter("BLEU", "BLANC", "HC")
    result = house.run("--quiet", at=f"2026-11-22T{time}")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("product", ["IPX800", "RT2"])
def test_another_device_is_named_and_a_valid_ptec_counts_whatever_the_product(
    house: House, product: str
) -> None:
    house.answers["product"] = product
    assert house.run("--quiet").code == 0
    house.answers = {"product": product, "T1_PTEC": "----"}
    result = house.run("--quiet")
    assert result.code == 3
    assert f"{product} : ce n'est pas un EcoDevice v1" in result.err


@pytest.mark.parametrize("field", fields("T1_DEMAIN", NOT_A_COLOUR))
def test_any_other_demain_is_not_announced_and_never_bleu(house: House, field: str) -> None:
    body = '{"T1_PTEC":"HPJW",' + field + OTHER_METER + "}"
    house.eco.reply = lambda request: http(200, body.encode("latin-1"))
    result = house.run(at=HP)
    assert (result.code, KEPT in result.out) == (0, True)
    assert house.writes() == [(SOC, '{"value":90}')]


@pytest.mark.parametrize("ptec", CONTRACTS)
def test_another_contract_is_named_and_the_web_is_not_asked(house: House, ptec: str) -> None:
    house.secret(use_api=True)
    house.answers["T1_PTEC"] = ptec
    result = house.run(at=HP)
    assert result.code == 3
    assert CONTRACTS[ptec] in result.err
    assert (len(house.eco.requests), house.internet.questions) == (1, [])
    assert house.writes() == []
    assert [push["priority"] for push in house.internet.pushes] == ["1"]


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
@pytest.mark.parametrize(("good", "code"), [(3, 0), (4, 3)])
def test_there_are_three_tries_and_a_pause_between_them(
    house: House, bad: str, good: int, code: int
) -> None:
    """The answer of this number is a good one."""
    moments: list[float] = []

    def reply(_: object) -> Reply:
        moments.append(time.monotonic())
        return http(200, TEMPO_BODY) if len(moments) == good else BAD_ANSWERS[bad]()

    house.eco.reply = reply
    assert house.run("--no-notify", scale=0.2).code == code
    asked = [(one.method, one.target) for one in house.eco.requests]
    assert asked == [("GET", "/api/xdevices.json?cmd=10")] * 3
    assert min(moments[1] - moments[0], moments[2] - moments[1]) >= 0.2 * 2


def test_a_refused_connection_is_tried_three_times(house: House) -> None:
    house.secret(ecodevice=f"127.0.0.1:{free_port()}")
    result = house.run("--verbose", scale=0.2)
    assert result.code == 3
    assert result.out.count("/api/xdevices.json?cmd=10") == 3


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 403, 404])
def test_other_http_errors_are_not_tried_again_nor_redirects_followed(
    house: House, status: int
) -> None:
    nowhere = "Location: http://[::1"
    house.eco.reply = lambda request: http(status, TEMPO_BODY, nowhere, "Content-Length: 999")
    result = house.run()
    assert (result.code, len(house.eco.requests)) == (3, 1)
    assert str(status) in result.err
    assert ("vérifiez ecouser et ecopassword" in result.err) == (status == 401)


@pytest.mark.parametrize(
    ("user", "password", "sent"),
    [
        ("moi", "à 5 €", "moi:à 5 €"),
        ("owner", None, "owner:"),
        ("", "s3cret!", None),
    ],
)
def test_basic_auth_when_ecouser_is_set_and_never_from_netrc_or_through_a_proxy(
    house: House, user: str | None, password: str | None, sent: str | None
) -> None:
    netrc = house.folder / ".netrc"
    netrc.write_text("default login stranger password netrc\n")
    house.secret(ecouser=user, ecopassword=password)
    result = house.run("--verbose")
    assert result.code == 0
    expected = sent and "Basic " + base64.b64encode(sent.encode()).decode()
    assert [request.headers.get("authorization") for request in house.eco.requests] == [expected]
    assert not password or password not in result.text
    assert house.internet.connects == [], "HTTP_PROXY is set"


# ---- Bounds --------------------------------------------------------------------------------------


def padded(size: int) -> str:
    """A good body of this many bytes."""
    return TEMPO_BODY.replace("Eco-devices", "x" * (size - len(TEMPO_BODY) + len("Eco-devices")))


OK_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
LONG: dict[str, tuple[int, Callable[[], Reply]]] = {  # the exit code, and the answer
    "64 KiB": (0, lambda: http(200, padded(64 * 1024))),
    "a byte more": (3, lambda: http(200, padded(64 * 1024 + 1))),
    "endless": (3, partial(endless, OK_HEAD + b"\r\n", b" " * 65536)),
}


@pytest.mark.parametrize("body", LONG)
def test_at_most_64_kib_of_an_answer_are_taken(house: House, body: str) -> None:
    code, answer = LONG[body]
    house.eco.reply = lambda request: answer()
    house.eco.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    assert house.run(scale=0.2).code == code
    # The rest is what the kernel takes for its buffers; each endless answer has 64 MiB.
    assert house.eco.sent < len(house.eco.requests) * 2 * 2**20


DRIPS: dict[str, Callable[[], Reply]] = {
    "a body": partial(drip, OK_HEAD + b'\r\n{"T1_PTEC":"', b"H", 0.05),
    "headers": partial(drip, OK_HEAD, b"X: x\r\n", 0.05),
}


@pytest.mark.parametrize("pieces", DRIPS)
def test_the_ecodevice_takes_30_seconds_at_most(house: House, pieces: str) -> None:
    house.eco.reply = lambda request: DRIPS[pieces]()
    start = time.monotonic()
    assert house.run("--no-notify", scale=0.05).code == 3
    # The rest is for a slow machine; a drip lasts 200 s.
    assert time.monotonic() - start < 0.05 * 30 + 12
