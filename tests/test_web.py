"""The web sources, the TEMPO day and the unknown colours."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import date, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trustme
from facts import COLOURS, PROFILES
from gx_simulator import MIN_SOC, SOC, STATE
from house import (
    House,
    Reply,
    api_body,
    days_around,
    drip,
    edf_body,
    endless,
    http,
    rte_body,
    silence,
)

from tempo_ess import BATTERY_LIFE, known_days, periode_at

RTE, EDF, API = "www.services-rte.com", "api-commerce.edf.fr", "www.api-couleur-tempo.fr"
TODAY, TOMORROW, ANOTHER = "2026-11-22", "2026-11-23", "2026-11-24"
HP, HC = f"{TODAY}T20:05", f"{TODAY}T22:02"
KEPT = "couleur de demain non annoncée, on garde celle du jour"
CHARGE = {f'{{"value":{soc}}}': couleur for couleur, (soc, _, _) in PROFILES.items()}


@pytest.fixture
def web(house: House) -> House:
    """The simulated house with use_api left at its default, and a meter that announces nothing."""
    house.secret(use_api=None)
    return house


def on_the_web_alone(house: House, dead: bool) -> float:
    """No EcoDevice: a dead one, or use_eco = False; the scale of the limits that suits."""
    if dead:
        house.eco.close()
        return 0.2
    house.secret(use_api=None, use_eco=False, ecodevice=None)
    return 1


def asked_days(house: House) -> list[str]:
    """The dates that api-couleur-tempo.fr was asked for."""
    targets = [request.target for request in house.internet.asked(API)]
    assert all(target.startswith("/api/jourTempo/") for target in targets)
    return [target.rpartition("/")[2] for target in targets]


def edf_target(first: str, last: str) -> str:
    """What EDF is asked for these days."""
    bounds = f"dateApplicationBorneInf={first}&dateApplicationBorneSup={last}"
    path = "/commerce/activet/v1/calendrier-jours-effacement"
    return f"{path}?option=TEMPO&{bounds}&identifiantConsommateur=src"


def counts(house: House) -> tuple[int, int, int]:
    """How often each source was asked, in the order of asking."""
    rte_asked, edf_asked, api_asked = (len(house.internet.asked(host)) for host in (RTE, EDF, API))
    return rte_asked, edf_asked, api_asked


def holds(house: House, colour: str) -> None:
    """The GX was left with this colour's settings."""
    assert house.gx
    soc, min_soc, life = PROFILES[colour]
    house.gx.values |= {SOC: soc, MIN_SOC: float(min_soc), STATE: 2 if life == "on" else 10}


def ess_mode(state: float) -> str:
    """What a raw State means."""
    return BATTERY_LIFE.text(state)


def charge(house: House) -> list[str]:
    """The colours whose charge this run wrote."""
    return [CHARGE[payload] for path, payload in house.writes() if path == SOC]


# ---- Tomorrow, when the meter does not announce it -----------------------------------------------


@pytest.mark.parametrize("at", [HP, HC], ids=["HP", "HC"])
@pytest.mark.parametrize("tomorrow", COLOURS)
def test_rte_resolves_what_the_meter_does_not_announce(web: House, tomorrow: str, at: str) -> None:
    holds(web, "BLANC")
    web.meter("BLANC", None, "HP" if at == HP else "HC")
    web.internet.rte = lambda request: http(200, rte_body({TODAY: "BLANC", TOMORROW: tomorrow}))
    result = web.run(at=at)
    assert (result.code, result.err) == (0, "")
    assert web.gx
    assert web.gx.values[SOC] == PROFILES[tomorrow][0]
    assert (ess_mode(web.gx.values[STATE]), web.gx.values[MIN_SOC]) == (
        ("on", 30) if at == HP else (PROFILES[tomorrow][2], PROFILES[tomorrow][1])
    )
    [asked] = web.internet.asked(RTE)
    assert asked.target == "/cms/open_data/v1/tempoLight"
    assert counts(web) == (1, 0, 0)


def rte(values: object) -> bytes:
    """RTE's answer with these values."""
    return http(200, json.dumps({"values": values}))


RED = rte_body({TODAY: "BLEU", TOMORROW: "ROUGE"})
RTE_DOES_NOT_KNOW = {
    "another date": rte({ANOTHER: "RED", TODAY: "RED"}),
    "-fallback only": rte({TODAY: "BLUE", f"{TOMORROW}-fallback": "RED"}),
    "unknown code": rte({TOMORROW: "PURPLE"}),
    "in French": rte({TOMORROW: "ROUGE"}),
    "lower case": rte({TOMORROW: "red"}),
    "a number": rte({TOMORROW: 3}),
    "null": rte({TOMORROW: None}),
    "a list": rte({TOMORROW: ["RED"]}),
    "values is a list": rte([{TOMORROW: "RED"}]),
    "values is a text": rte(TOMORROW),
    "no values": http(200, json.dumps({TOMORROW: "RED"})),
    "JSON, not an object": http(200, f"[{RED}]"),
    "HTML": http(200, f"<html><body>{RED}</body></html>", "Content-Type: application/json"),
    "cut": http(200, RED[:-1]),
    "over 64 KiB": http(200, RED.replace("{", "{" + " " * 65536, 1)),
    "201": http(201, RED),
    "404": http(404, RED),
    "500": http(500, RED),
    "503": http(503, RED),
    "redirect to itself": http(302, RED, f"Location: https://{RTE}/moved"),
    "closed at once": b"",
}


@pytest.mark.parametrize("reason", RTE_DOES_NOT_KNOW)
def test_edf_answers_when_rte_does_not(web: House, reason: str) -> None:
    answer = RTE_DOES_NOT_KNOW[reason]
    web.internet.rte = lambda request: http(200, RED) if "moved" in request.target else answer
    web.internet.edf = lambda request: http(200, edf_body({TOMORROW: "BLANC"}))
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert charge(web) == ["BLANC"]
    assert counts(web) == (1, 1, 0)


def edf(*days: object, option: object = "TEMPO") -> bytes:
    """EDF's answer with this calendar."""
    options = [{"option": option, "calendrier": days}]
    return http(200, json.dumps({"errors": [], "content": {"options": options}}))


def edf_day(day: object, status: object) -> dict[str, object]:
    """One day of EDF's calendar."""
    return {"dateApplication": day, "statut": status}


EDF_RED = edf_day(TOMORROW, "TEMPO_ROUGE")
EDF_BODY = edf_body({TOMORROW: "ROUGE"})
EDF_DOES_NOT_KNOW = {
    "NON_DEFINI": edf(edf_day(TODAY, "TEMPO_ROUGE"), edf_day(TOMORROW, "NON_DEFINI")),
    "today's date": edf(edf_day(TODAY, "TEMPO_ROUGE")),
    "another date": edf(edf_day(ANOTHER, "TEMPO_ROUGE")),
    "date and time": edf(edf_day(f"{TOMORROW}T00:00:00", "TEMPO_ROUGE")),
    "date null": edf(edf_day(None, "TEMPO_ROUGE")),
    "date is a list": edf(edf_day([TOMORROW], "TEMPO_ROUGE")),
    "another option": edf(EDF_RED, option="EJP"),
    "option null": edf(EDF_RED, option=None),
    "unknown status": edf(edf_day(TOMORROW, "TEMPO_VERT")),
    "a bare colour": edf(edf_day(TOMORROW, "ROUGE")),
    "lower case": edf(edf_day(TOMORROW, "tempo_rouge")),
    "a number": edf(edf_day(TOMORROW, 3)),
    "a list": edf(edf_day(TOMORROW, ["TEMPO_ROUGE"])),
    "no status": edf({"dateApplication": TOMORROW}),
    "days are texts": edf(TOMORROW),
    "empty calendar": edf(),
    "no options": http(200, json.dumps({"errors": [], "content": {"options": []}})),
    "options null": http(200, json.dumps({"errors": [], "content": {"options": None}})),
    "content null": http(200, json.dumps({"errors": ["x"], "content": None})),
    "no content": http(200, json.dumps({"errors": []})),
    "JSON, not an object": http(200, f"[{EDF_BODY}]"),
    "HTML": http(200, f"<html><body>{EDF_BODY}</body></html>", "Content-Type: application/json"),
    "cut": http(200, EDF_BODY[:-1]),
    "201": http(201, EDF_BODY),
    "400": http(400, EDF_BODY),
    "403": http(403, EDF_BODY),
    "503": http(503, EDF_BODY),
    "redirect to itself": http(302, EDF_BODY, f"Location: https://{EDF}/moved"),
    "closed at once": b"",
}


@pytest.mark.parametrize("reason", EDF_DOES_NOT_KNOW)
def test_api_couleur_tempo_answers_when_edf_does_not(web: House, reason: str) -> None:
    web.meter("BLEU", None, "HP")
    answer = EDF_DOES_NOT_KNOW[reason]
    web.internet.edf = lambda request: http(200, EDF_BODY) if "moved" in request.target else answer
    web.internet.api = lambda request: http(200, api_body(TOMORROW, {TOMORROW: "BLANC"}))
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert charge(web) == ["BLANC"]
    assert (counts(web), asked_days(web)) == ((1, 1, 1), [TOMORROW])


def test_edf_is_asked_once_for_both_days_as_its_customer_site_does(web: House) -> None:
    on_the_web_alone(web, dead=False)
    holds(web, "BLANC")
    web.internet.edf = lambda request: http(200, edf_body({TODAY: "BLANC", TOMORROW: "ROUGE"}))
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert "BLANC" in result.out
    assert charge(web) == ["ROUGE"]
    assert counts(web) == (1, 1, 0)
    [asked] = web.internet.asked(EDF)
    assert (asked.method, asked.target) == ("GET", edf_target(TODAY, TOMORROW))
    assert asked.headers["application-origine-controlee"] == "site_RC"
    assert asked.headers["situation-usage"] == "Jours Effacement"


def api(**answer: object) -> bytes:
    """api-couleur-tempo.fr's answer, RED for tomorrow but for what is given."""
    return http(
        200, json.dumps({"dateJour": TOMORROW, "codeJour": 3, "periode": "2026-2027"} | answer)
    )


THREE = api_body(TOMORROW, {TOMORROW: "ROUGE"})
API_DOES_NOT_KNOW = {
    "code 0": api(codeJour=0),
    "code true": api(codeJour=True),
    "code '3'": api(codeJour="3"),
    "code 3.0": api(codeJour=3.0),
    "code 4": api(codeJour=4),
    "code -1": api(codeJour=-1),
    "code null": api(codeJour=None),
    "code [3]": api(codeJour=[3]),
    "no code": http(200, json.dumps({"dateJour": TOMORROW, "libCouleur": "Rouge"})),
    "today's date": api(dateJour=TODAY),
    "another date": api(dateJour=ANOTHER),
    "date null": api(dateJour=None),
    "date and time": api(dateJour=f"{TOMORROW}T00:00:00"),
    "no date": http(200, json.dumps({"codeJour": 3})),
    "JSON, not an object": http(200, f"[{THREE}]"),
    "HTML": http(200, f"<html><body>{THREE}</body></html>", "Content-Type: application/json"),
    "201": http(201, THREE),
    "404": http(404, THREE),
    "502": http(502, THREE),
    "redirect to itself": http(301, THREE, f"Location: https://{API}/moved"),
    "closed at once": b"",
}


@pytest.mark.parametrize("reason", API_DOES_NOT_KNOW)
def test_tomorrow_stays_unknown_when_no_source_knows(web: House, reason: str) -> None:
    holds(web, "BLANC")
    web.meter("BLANC", None, "HP")
    answer = API_DOES_NOT_KNOW[reason]
    web.internet.api = lambda request: http(200, THREE) if "moved" in request.target else answer
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert KEPT in result.out
    assert web.writes() == []
    assert (counts(web), asked_days(web)) == ((1, 1, 1), [TOMORROW])
    assert web.internet.pushes == []


def distrust(house: House, host: str) -> Callable[[], Reply]:
    """A good answer, behind another authority's certificate for this host."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(stranger)

    def swap(end: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == host:
            end.context = stranger

    assert house.internet.server.context
    house.internet.server.context.sni_callback = swap
    return partial(http, 200, {RTE: RED, EDF: EDF_BODY, API: THREE}[host])


OPEN = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
BROKEN_LINES: dict[str, Callable[[House, str], Callable[[], Reply]]] = {
    "mute": lambda house, host: silence,
    "drips a body": lambda house, host: partial(drip, OPEN, b" ", 0.05),
    "endless": lambda house, host: partial(endless, OPEN, b" " * 65536),
    "certificate not trusted": distrust,
}


@pytest.mark.parametrize("line", BROKEN_LINES)
@pytest.mark.parametrize("host", [RTE, EDF, API])
def test_a_broken_line_to_a_source_is_left_for_the_next(web: House, host: str, line: str) -> None:
    web.meter("BLANC", None, "HP")
    web.internet.api = lambda request: http(200, THREE)
    reply = BROKEN_LINES[line](web, host)
    setattr(web.internet, {RTE: "rte", EDF: "edf", API: "api"}[host], lambda request: reply())
    for listener in (web.internet.server.listener, web.internet.proxy.listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    start = time.monotonic()
    result = web.run(at=HP, scale=0.2)
    # The rest is for a slow machine; a drip lasts 200 s.
    assert time.monotonic() - start < 0.2 * 15 + 15
    assert result.code == 0
    assert charge(web) == ["BLANC" if host == API else "ROUGE"]
    assert len(web.internet.asked(host)) == (line != "certificate not trusted")
    # endless offers 64 MiB, the kernel takes some for its buffers.
    assert web.internet.server.sent < 4 * 2**20


@pytest.mark.parametrize("pieces", [silence, partial(drip, OPEN, b" ", 0.05)], ids=["mute", "drip"])
def test_each_source_takes_15_seconds_at_most(
    web: House, pieces: Callable[[], Iterable[bytes]]
) -> None:
    on_the_web_alone(web, dead=False)
    web.internet.rte = web.internet.edf = web.internet.api = lambda request: pieces()
    start = time.monotonic()
    assert web.run("--no-notify", at=HP, scale=0.1).code == 3
    assert time.monotonic() - start < 0.1 * (15 + 15 + 15) + 12
    assert (counts(web), asked_days(web)) == ((1, 1, 1), [TODAY])


# ---- Tomorrow unknown ----------------------------------------------------------------------------


@pytest.mark.parametrize("today", COLOURS)
def test_unknown_tomorrow_keeps_todays_colour_in_hp(web: House, today: str) -> None:
    web.meter(today, None, "HP")
    result = web.run(at=HP)
    assert result.code == 0
    assert KEPT in result.out
    assert KEPT not in result.err
    assert web.gx
    assert web.gx.profile() == (PROFILES[today][0], 30, 2)
    assert web.internet.pushes == []


@pytest.mark.parametrize("soc", [55, 100])
@pytest.mark.parametrize("today", COLOURS)
def test_unknown_tomorrow_leaves_the_charge_alone_in_hc(web: House, today: str, soc: int) -> None:
    web.meter(today, None, "HC")
    assert web.gx
    web.gx.values |= {SOC: soc, MIN_SOC: 12.0, STATE: 2 if today == "ROUGE" else 10}
    result = web.run(at=HC)
    assert result.code == 0
    assert KEPT in (result.out if today == "BLEU" else result.err)
    assert KEPT not in (result.err if today == "BLEU" else result.out)
    _, min_soc, life = PROFILES[today]
    assert {path for path, _ in web.writes()} == {MIN_SOC, STATE}
    assert (web.gx.values[SOC], web.gx.values[MIN_SOC], ess_mode(web.gx.values[STATE])) == (
        soc,
        min_soc,
        life,
    )
    assert web.internet.pushes == []


@pytest.mark.parametrize(("at", "period"), [(HP, "HP"), (HC, "HC")], ids=["HP", "HC"])
@pytest.mark.parametrize("tomorrow", COLOURS)
def test_nobody_is_asked_when_the_meter_announces(
    web: House, tomorrow: str, at: str, period: str
) -> None:
    web.meter("BLEU", tomorrow, period)
    web.internet.knows(d2026_11_22="ROUGE", d2026_11_23="BLANC")
    result = web.run(at=at)
    assert (result.code, result.err) == (0, "")
    assert web.gx
    assert web.gx.values[SOC] == PROFILES[tomorrow][0]
    assert {line.split()[1] for line in web.internet.connects} <= {"api.prowlapp.com:443"}


def test_nobody_is_asked_without_use_api(house: House) -> None:
    house.internet.knows(d2026_11_22="ROUGE", d2026_11_23="ROUGE")
    result = house.run(at=HP)
    assert result.code == 0
    assert KEPT in result.out
    assert house.internet.connects == []


def test_the_meters_today_counts_more_than_the_webs(web: House) -> None:
    web.meter("BLANC", None, "HC")
    web.internet.knows(d2026_11_22="ROUGE")
    result = web.run(at=HC)
    assert result.code == 0
    assert KEPT in result.err
    assert web.writes() == []


@pytest.mark.parametrize(
    ("at", "period", "asked"),
    [
        ("2026-11-22T06:01", "HC", []),  # a late meter
        ("2026-11-22T06:30", "HP", []),
        ("2026-11-22T10:59", "HP", []),
        ("2026-11-22T11:00", "HP", [TOMORROW]),
        ("2026-11-22T22:02", "HC", [TOMORROW]),
        ("2026-11-23T00:30", "HC", [TOMORROW]),
        ("2026-11-23T05:59", "HC", [TOMORROW]),
    ],
)
def test_tomorrow_is_not_asked_before_11_of_the_tempo_day(
    web: House, at: str, period: str, asked: list[str]
) -> None:
    web.meter("BLEU", None, period)
    web.internet.api = lambda request: http(200, THREE)
    assert web.run("--dry-run", at=at).code == 0
    assert (counts(web), asked_days(web)) == ((len(asked),) * 3, asked)


# ---- The web alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [True, False], ids=["dead EcoDevice", "use_eco = False"])
@pytest.mark.parametrize("at", [HP, HC], ids=["HP", "HC"])
def test_the_web_alone_and_the_paris_clock_do_the_evening(web: House, at: str, dead: bool) -> None:
    scale = on_the_web_alone(web, dead)
    web.internet.knows(d2026_11_22="BLANC", d2026_11_23="ROUGE")
    result = web.run(at=at, scale=scale)
    assert result.code == 0
    assert ("EcoDevice" in result.err) is dead
    assert web.gx
    evening = web.gx.values[SOC], web.gx.values[MIN_SOC], ess_mode(web.gx.values[STATE])
    assert evening == ((100, 30, "on") if at == HP else (100, 25, "off"))
    assert (counts(web), web.eco.requests) == ((1, 0, 0), [])


def test_edf_gives_the_tomorrow_that_rte_does_not(web: House) -> None:
    on_the_web_alone(web, dead=False)
    holds(web, "BLANC")
    web.internet.rte = lambda request: http(200, rte_body({TODAY: "BLANC"}))
    web.internet.edf = lambda request: http(200, edf_body({TODAY: "BLEU", TOMORROW: "ROUGE"}))
    result = web.run(at=HC)
    assert (result.code, result.err) == (0, "")
    assert "BLANC" in result.out
    assert charge(web) == ["ROUGE"]
    [asked] = web.internet.asked(EDF)
    assert asked.target == edf_target(TOMORROW, TOMORROW)
    assert counts(web) == (1, 1, 0)


def test_rte_gives_today_and_the_api_tomorrow(web: House) -> None:
    on_the_web_alone(web, dead=False)
    holds(web, "BLANC")
    web.internet.rte = lambda request: http(200, rte_body({TODAY: "BLANC"}))
    web.internet.api = lambda request: http(200, api_body(TOMORROW, {TOMORROW: "ROUGE"}))
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert "BLANC" in result.out
    assert (charge(web), asked_days(web)) == (["ROUGE"], [TOMORROW])


def test_today_known_and_tomorrow_not_keeps_todays_colour(web: House) -> None:
    on_the_web_alone(web, dead=False)
    holds(web, "BLANC")
    web.internet.knows(d2026_11_22="BLANC")
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert KEPT in result.out
    assert (charge(web), counts(web)) == ([], (1, 1, 1))
    assert asked_days(web) == [TOMORROW]


@pytest.mark.parametrize("dead", [True, False], ids=["dead EcoDevice", "use_eco = False"])
@pytest.mark.parametrize("at", [HP, HC], ids=["HP", "HC"])
def test_today_unknown_writes_nothing_and_says_why(web: House, at: str, dead: bool) -> None:
    scale = on_the_web_alone(web, dead)
    web.internet.rte = lambda request: http(200, rte_body({TOMORROW: "ROUGE"}))
    web.internet.api = lambda request: http(404, "")
    result = web.run("--quiet", at=at, scale=scale)
    assert (result.code, result.out) == (3, "")
    assert web.writes() == []
    assert web.gx
    assert web.gx.questions == []
    [push] = web.internet.pushes
    assert (push["event"], push["priority"]) == ("EDF TEMPO", "1")
    meter = ["EcoDevice", web.eco.address, "refusée"] if dead else []
    for words in ["RTE", "EDF", "503", "api-couleur-tempo.fr", "404", *meter]:
        assert words in result.err
        assert words in push["description"]


# ---- The TEMPO day -------------------------------------------------------------------------------

DAYS = [  # Paris time, fold, the dates known by then, the period
    ("2026-11-22T20:05", 0, [TODAY, TOMORROW], "HP"),
    ("2026-11-22T21:59", 0, [TODAY, TOMORROW], "HP"),
    ("2026-11-22T22:00", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-22T22:01", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-22T23:59", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-23T00:00", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-23T00:30", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-23T05:59", 0, [TODAY, TOMORROW], "HC"),
    ("2026-11-23T06:00", 0, [TOMORROW], "HP"),
    ("2026-11-23T06:01", 0, [TOMORROW], "HP"),
    ("2026-11-23T10:59", 0, [TOMORROW], "HP"),
    ("2026-11-23T11:00", 0, [TOMORROW, ANOTHER], "HP"),
    ("2027-01-01T00:30", 0, ["2026-12-31", "2027-01-01"], "HC"),
    # From summer to winter time, 02:00-03:00 comes twice.
    ("2026-10-24T23:59", 0, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T00:30", 0, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T02:30", 0, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T02:30", 1, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T05:30", 0, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T05:59", 0, ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T06:00", 0, ["2026-10-25"], "HP"),
    ("2026-10-25T06:01", 0, ["2026-10-25"], "HP"),
    ("2026-10-25T23:59", 0, ["2026-10-25", "2026-10-26"], "HC"),
    # From winter to summer time, 02:00-03:00 is missing.
    ("2027-03-27T23:59", 0, ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T01:59", 0, ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T03:00", 0, ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T05:59", 0, ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T06:00", 0, ["2027-03-28"], "HP"),
    ("2027-03-28T06:01", 0, ["2027-03-28"], "HP"),
    ("2027-03-28T23:59", 0, ["2027-03-28", "2027-03-29"], "HC"),
]


@pytest.mark.parametrize(("at", "fold", "dates", "period"), DAYS)
def test_the_tempo_day_and_period_by_the_paris_clock(
    at: str, fold: int, dates: list[str], period: str
) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo("Europe/Paris"), fold=fold)
    named = dict(zip(("aujourdhui", "demain"), map(date.fromisoformat, dates), strict=False))
    assert (known_days(now), periode_at(now)) == (named, period)


ELSEWHERE = {"TZ": "Pacific/Auckland"}
WALKED = ["00:30", "05:59", "06:01", "10:59", "11:00", "21:59", "22:01", "23:59"]


@pytest.mark.parametrize(
    ("at", "_", "dates", "period"), [day for day in DAYS if day[0][11:] in WALKED]
)
def test_the_dates_asked_on_a_machine_in_another_zone(
    web: House, at: str, _: int, dates: list[str], period: str
) -> None:
    on_the_web_alone(web, dead=False)
    web.internet.api = lambda request: http(
        200, api_body(day := request.target[-10:], {day: "BLANC"})
    )
    result = web.run("--dry-run", at=at, env=ELSEWHERE)
    assert result.code == 0
    assert period in result.out
    assert asked_days(web) == dates
    assert [one.target for one in web.internet.asked(EDF)] == [edf_target(dates[0], dates[-1])]


def test_the_programs_own_clock_is_the_one_of_paris(web: House) -> None:
    on_the_web_alone(web, dead=False)
    web.internet.api = lambda request: http(
        200, api_body(day := request.target[-10:], {day: "BLANC"})
    )
    before = datetime.now(ZoneInfo("Europe/Paris"))
    result = web.run("--dry-run", env=ELSEWHERE)
    after = datetime.now(ZoneInfo("Europe/Paris"))
    assert result.code == 0
    possible: list[Any] = [
        [str(day) for day in known_days(now).values()] for now in (before, after)
    ]
    assert asked_days(web) in possible
    assert asked_days(web)[0] in [str(days_around(now)[0]) for now in (before, after)]
    assert any(periode_at(now) in result.out for now in (before, after))


# ---- A meter that is still in HP at night --------------------------------------------------------


@pytest.mark.parametrize("at", [HC, "2026-11-22T23:59", "2026-11-23T00:30", "2026-11-23T05:59"])
def test_a_meter_still_in_hp_at_night_is_told_with_its_remedy(web: House, at: str) -> None:
    web.meter("BLEU", "BLANC", "HP")
    result = web.run(at=at)
    assert result.code == 0
    assert "crontab" in result.err
    assert charge(web) == ["BLANC"]
    assert len(web.writes()) == 1


@pytest.mark.parametrize(
    ("at", "period", "arguments"),
    [
        (HP, "HP", []),
        ("2026-11-22T21:59", "HP", []),
        ("2026-11-23T06:00", "HP", []),
        (HC, "HC", []),
        (HC, "HP", ["--period", "HP"]),
        (HC, "HC", ["--period", "HP", "--today", "bleu"]),
    ],
    ids=["20:05", "21:59", "06:00", "HC on the meter", "HP imposed", "all imposed"],
)
def test_nothing_is_said_of_crontab_otherwise(
    web: House, at: str, period: str, arguments: list[str]
) -> None:
    web.meter("BLEU", "BLEU", period)
    result = web.run(*arguments, at=at)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("at", ["2026-11-22T21:59", HC])
def test_nothing_is_said_of_crontab_when_the_clock_gives_the_period(web: House, at: str) -> None:
    on_the_web_alone(web, dead=False)
    web.internet.knows(d2026_11_22="BLEU", d2026_11_23="BLEU")
    result = web.run(at=at)
    assert (result.code, result.err) == (0, "")
