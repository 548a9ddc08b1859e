"""The web sources, the TEMPO day and the unknown colours."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest
import trustme
from facts import COLOURS, PROFILES
from gx_simulator import MIN_SOC, SOC, STATE
from house import House, api_body, drip, edf_answer, edf_body, endless, http, rte_body, silence

from tempo_ess import BATTERY_LIFE, known_days, periode_at

TODAY, TOMORROW, ANOTHER = "2026-11-22", "2026-11-23", "2026-11-24"
HP, HC = f"{TODAY}T20:05", f"{TODAY}T22:02"
AT = {"HP": HP, "HC": HC}
KEPT = "couleur de demain non annoncée, on garde celle du jour"
CHARGE = {f'{{"value":{soc}}}': couleur for couleur, (soc, _, _) in PROFILES.items()}
PARIS = ZoneInfo("Europe/Paris")
# The sources in the order of asking; an answer of each that says ROUGE for tomorrow.
HOSTS = {"rte": "www.services-rte.com", "edf": "api-commerce.edf.fr"}
HOSTS["api"] = "www.api-couleur-tempo.fr"
RED = {"rte": rte_body({TODAY: "BLEU", TOMORROW: "ROUGE"}), "edf": edf_body({TOMORROW: "ROUGE"})}
RED["api"] = api_body(TOMORROW, {TOMORROW: "ROUGE"})


@pytest.fixture
def web(house: House) -> House:
    """The simulated house with use_api left at its default."""
    house.secret(use_api=None)
    return house


@pytest.fixture
def alone(house: House) -> House:
    """The house without an EcoDevice; only the API knows, BLEU for any day."""
    house.secret(use_api=None, use_eco=False, ecodevice=None)
    house.internet.api = lambda asked: api(dateJour=asked.target[-10:], codeJour=1)
    return house


def counts(house: House) -> tuple[int, ...]:
    """How often each source was asked, in the order of asking."""
    return tuple(len(house.internet.asked(host)) for host in HOSTS.values())


def asked_days(house: House) -> list[str]:
    """The dates that api-couleur-tempo.fr was asked for."""
    targets = [request.target for request in house.internet.asked(HOSTS["api"])]
    assert all(target.startswith("/api/jourTempo/") for target in targets)
    return [target.rpartition("/")[2] for target in targets]


def edf_target(first: str) -> str:
    """What EDF is asked for the days from this one to TOMORROW."""
    bounds = f"dateApplicationBorneInf={first}&dateApplicationBorneSup={TOMORROW}"
    path = "/commerce/activet/v1/calendrier-jours-effacement"
    return f"{path}?option=TEMPO&{bounds}&identifiantConsommateur=src"


def held(house: House) -> tuple[float, float, str]:
    """What the GX holds, in the words of PROFILES."""
    soc, min_soc, state = house.gx.profile()
    return soc, min_soc, BATTERY_LIFE.text(state)


def charge(house: House) -> list[str]:
    """The colours whose charge this run wrote."""
    return [CHARGE[payload] for path, payload in house.writes() if path == SOC]


# ---- Tomorrow, when the meter does not announce it -----------------------------------------------


@pytest.mark.parametrize("period", AT)
@pytest.mark.parametrize("tomorrow", COLOURS)
def test_rte_resolves_what_the_meter_leaves_open(web: House, tomorrow: str, period: str) -> None:
    web.meter("BLEU", None, period)
    web.internet.rte = lambda request: http(200, rte_body({TODAY: "ROUGE", TOMORROW: tomorrow}))
    result = web.run(at=AT[period])
    assert (result.code, result.err) == (0, "")
    assert "aujourd'hui BLEU" in result.out
    soc, *others = PROFILES[tomorrow]
    assert held(web) == ((soc, 30, "on") if period == "HP" else (soc, *others))
    [asked] = web.internet.asked(HOSTS["rte"])
    assert asked.target == "/cms/open_data/v1/tempoLight"
    assert counts(web) == (1, 0, 0)


def rte(values: object) -> bytes:
    return http(200, json.dumps({"values": values}))


def edf(day: object, status: object, option: object = "TEMPO") -> bytes:
    """EDF's answer with one day in its calendar."""
    calendar = [{"dateApplication": day, "statut": status}]
    content = {"options": [{"option": option, "calendrier": calendar}]}
    return http(200, json.dumps({"errors": [], "content": content}))


def api(**answer: object) -> bytes:
    """api-couleur-tempo.fr's answer, RED for tomorrow but for what is given."""
    return http(200, json.dumps(json.loads(RED["api"]) | answer))


def no_good(source: str) -> dict[str, bytes]:
    """Answers of any source that say ROUGE, in a shape that must not be believed."""
    good = RED[source]
    return {
        "JSON, not an object": http(200, f"[{good}]"),
        "HTML": http(200, f"<html>{good}</html>", "Content-Type: application/json"),
        "cut": http(200, good[:-1]),
        "over 64 KiB": http(200, good.replace("{", "{" + " " * 65536, 1)),
        **{str(status): http(status, good) for status in (201, 404, 503)},
        "redirect to itself": http(302, good, f"Location: https://{HOSTS[source]}/moved"),
        "closed at once": b"",
    }


DOES_NOT_KNOW = {source: no_good(source) for source in HOSTS}
DOES_NOT_KNOW["rte"] |= {
    "another date": rte({ANOTHER: "RED", TODAY: "RED"}),
    "-fallback only": rte({TODAY: "BLUE", f"{TOMORROW}-fallback": "RED"}),
    "unknown code": rte({TOMORROW: "PURPLE"}),
    "a list": rte({TOMORROW: ["RED"]}),
    "no values": http(200, json.dumps({TOMORROW: "RED"})),
}
DOES_NOT_KNOW["edf"] |= {
    "NON_DEFINI": edf(TOMORROW, "NON_DEFINI"),
    "another date": edf(TODAY, "TEMPO_ROUGE"),
    "date and time": edf(f"{TOMORROW}T00:00:00", "TEMPO_ROUGE"),
    "another option": edf(TOMORROW, "TEMPO_ROUGE", option="EJP"),
    "unknown status": edf(TOMORROW, "TEMPO_VERT"),
    "content null": http(200, json.dumps({"errors": ["x"], "content": None})),
}
DOES_NOT_KNOW["api"] |= {
    "code 0": api(codeJour=0),
    "code true": api(codeJour=True),
    "code '3'": api(codeJour="3"),
    "no code": http(200, json.dumps({"dateJour": TOMORROW, "libCouleur": "Rouge"})),
    "another date": api(dateJour=TODAY),
    "no date": http(200, json.dumps({"codeJour": 3})),
}
UNKNOWING = [(source, reason) for source, reasons in DOES_NOT_KNOW.items() for reason in reasons]


@pytest.mark.parametrize(("source", "reason"), UNKNOWING)
def test_the_next_is_asked_when_one_does_not_know(web: House, source: str, reason: str) -> None:
    moved, answer = http(200, RED[source]), DOES_NOT_KNOW[source][reason]
    web.internet.api = lambda request: http(200, api_body(TOMORROW, {TOMORROW: "BLANC"}))
    if source == "rte":
        web.internet.edf = lambda request: http(200, edf_body({TOMORROW: "BLANC"}))
    setattr(web.internet, source, lambda asked: moved if "moved" in asked.target else answer)
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert counts(web) == ((1, 1, 0) if source == "rte" else (1, 1, 1))
    assert asked_days(web) == ([] if source == "rte" else [TOMORROW])
    assert (KEPT in result.out) is (source == "api")
    assert charge(web) == ([] if source == "api" else ["BLANC"])


def distrust(house: House, source: str) -> Callable[[], object]:
    """A good answer, behind another authority's certificate for this host."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOSTS[source]).configure_cert(stranger)

    def swap(end: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == HOSTS[source]:
            end.context = stranger

    assert house.internet.server.context
    house.internet.server.context.sni_callback = swap
    return partial(http, 200, RED[source])


OPEN = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
BROKEN_LINES: dict[str, Callable[[House, str], Callable[[], object]]] = {
    "mute": lambda house, source: silence,
    "drips a body": lambda house, source: partial(drip, OPEN, b" ", 0.05),
    "endless": lambda house, source: partial(endless, OPEN, b" " * 65536),
    "certificate not trusted": distrust,
}


@pytest.mark.parametrize("line", BROKEN_LINES)
@pytest.mark.parametrize("source", HOSTS)
def test_a_broken_line_is_left_for_the_next_source(web: House, source: str, line: str) -> None:
    web.internet.api = lambda request: http(200, RED["api"])
    reply = BROKEN_LINES[line](web, source)
    setattr(web.internet, source, lambda request: reply())
    for listener in (web.internet.server.listener, web.internet.proxy.listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    start = time.monotonic()
    result = web.run(at=HP, scale=0.2)
    # The rest is for a slow machine; a drip lasts 200 s.
    assert time.monotonic() - start < 0.2 * 15 + 15
    assert result.code == 0
    assert charge(web) == ([] if source == "api" else ["ROUGE"])
    assert len(web.internet.asked(HOSTS[source])) == (line != "certificate not trusted")
    # endless offers 64 MiB, the kernel takes some for its buffers.
    assert web.internet.server.sent < 4 * 2**20


# ---- Tomorrow unknown, or announced --------------------------------------------------------------


@pytest.mark.parametrize("today", COLOURS)
def test_unknown_tomorrow_keeps_todays_colour_in_hp(web: House, today: str) -> None:
    web.meter(today, None, "HP")
    result = web.run(at=HP)
    assert result.code == 0
    assert (KEPT in result.out, KEPT in result.err) == (True, False)
    assert held(web) == (PROFILES[today][0], 30, "on")
    assert web.internet.pushes == []


@pytest.mark.parametrize("today", COLOURS)
def test_unknown_tomorrow_leaves_the_charge_alone_in_hc(web: House, today: str) -> None:
    web.meter(today, None, "HC")
    web.gx.values |= {SOC: 55, MIN_SOC: 12.0, STATE: 2 if today == "ROUGE" else 10}
    result = web.run(at=HC)
    assert result.code == 0
    assert (KEPT in result.out, KEPT in result.err) == (today == "BLEU", today != "BLEU")
    assert {path for path, _ in web.writes()} == {MIN_SOC, STATE}
    assert held(web) == (55, *PROFILES[today][1:])
    assert web.internet.pushes == []


@pytest.mark.parametrize("period", AT)
@pytest.mark.parametrize("tomorrow", COLOURS)
def test_nobody_is_asked_when_the_meter_announces(web: House, tomorrow: str, period: str) -> None:
    web.meter("BLEU", tomorrow, period)
    web.internet.knows(d2026_11_22="ROUGE", d2026_11_23="BLANC")
    result = web.run(at=AT[period])
    assert (result.code, result.err) == (0, "")
    assert held(web)[0] == PROFILES[tomorrow][0]
    assert {line.split()[1] for line in web.internet.connects} <= {"api.prowlapp.com:443"}


def test_nobody_is_asked_without_use_api(house: House) -> None:
    house.internet.knows(d2026_11_22="ROUGE", d2026_11_23="ROUGE")
    result = house.run(at=HP)
    assert result.code == 0
    assert KEPT in result.out
    assert house.internet.connects == []


@pytest.mark.parametrize(
    ("at", "period", "asked"),
    [
        ("2026-11-22T06:01", "HC", []),  # a late meter
        ("2026-11-22T10:59", "HP", []),
        ("2026-11-22T11:00", "HP", [TOMORROW]),
        ("2026-11-23T05:59", "HC", [TOMORROW]),
    ],
)
def test_tomorrow_is_not_asked_before_11_of_the_tempo_day(
    web: House, at: str, period: str, asked: list[str]
) -> None:
    web.meter("BLEU", None, period)
    web.internet.api = lambda request: http(200, RED["api"])
    assert web.run("--dry-run", at=at).code == 0
    assert (counts(web), asked_days(web)) == ((len(asked),) * 3, asked)


# ---- The web alone -------------------------------------------------------------------------------

DEAD = pytest.mark.parametrize("dead", [True, False], ids=["dead EcoDevice", "use_eco = False"])


@DEAD
@pytest.mark.parametrize("period", AT)
def test_the_web_and_the_paris_clock_do_the_evening(house: House, period: str, dead: bool) -> None:
    house.secret(use_api=None, use_eco=dead)
    house.eco.close()
    house.internet.knows(d2026_11_22="BLANC", d2026_11_23="ROUGE")
    result = house.run(at=AT[period], scale=0.2 if dead else 1)
    assert result.code == 0
    assert ("EcoDevice" in result.err) is dead
    assert held(house) == ((100, 30, "on") if period == "HP" else PROFILES["ROUGE"])
    assert counts(house) == (1, 0, 0)


@DEAD
def test_today_unknown_writes_nothing_and_says_why(house: House, dead: bool) -> None:
    house.secret(use_api=None, use_eco=dead)
    house.eco.close()
    house.internet.rte = lambda request: http(200, rte_body({TOMORROW: "ROUGE"}))
    house.internet.api = lambda request: http(404, "")
    result = house.run("--quiet", at=HC, scale=0.2 if dead else 1)
    assert (result.code, result.out, house.writes()) == (3, "", [])
    assert house.gx.questions == []
    [push] = house.internet.pushes
    assert (push["event"], push["priority"]) == ("EDF TEMPO", "1")
    meter = ["EcoDevice", house.eco.address, "refusée"] if dead else []
    for words in ["RTE", "EDF", "503", "api-couleur-tempo.fr", "404", *meter]:
        assert words in result.err
        assert words in push["description"]


NOW, NEXT = {TODAY: "BLEU"}, {TOMORROW: "ROUGE"}


@pytest.mark.parametrize(
    ("known", "written", "edf_from", "api_asked"),
    [  # what RTE, EDF and the API know
        ([{}, NOW | NEXT, {}], ["ROUGE"], TODAY, []),
        ([{}, {}, NOW | NEXT], ["ROUGE"], TODAY, [TODAY, TOMORROW]),
        ([NOW, NEXT | {TODAY: "BLANC"}, {}], ["ROUGE"], TOMORROW, []),
        ([NOW, {}, NEXT], ["ROUGE"], TOMORROW, [TOMORROW]),
        ([NOW, {}, {}], [], TOMORROW, [TOMORROW]),
        ([{}, {}, NOW], [], TODAY, [TODAY, TOMORROW]),
    ],
)
def test_each_source_is_asked_for_what_is_still_unknown(
    alone: House, known: list[dict[str, str]], written: object, edf_from: str, api_asked: object
) -> None:
    alone.internet.rte = lambda asked: http(200, rte_body(known[0]))
    alone.internet.edf = lambda asked: edf_answer(asked, known[1])
    alone.internet.api = lambda asked: http(200, api_body(asked.target[-10:], known[2]))
    result = alone.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert "aujourd'hui BLEU" in result.out
    assert (KEPT in result.out) is (not written)
    assert (charge(alone), asked_days(alone)) == (written, api_asked)
    [asked] = alone.internet.asked(HOSTS["edf"])
    assert (asked.method, asked.target) == ("GET", edf_target(edf_from))
    assert len(alone.internet.asked(HOSTS["rte"])) == 1


@pytest.mark.parametrize("odd", [http(200, '{"error": 1}'), http(500, ""), http(200, "<html>")])
def test_today_is_not_lost_with_an_odd_answer_for_tomorrow(alone: House, odd: bytes) -> None:
    today = {TODAY: "BLANC"}
    alone.internet.api = lambda request: (
        http(200, api_body(TODAY, today)) if request.target.endswith(TODAY) else odd
    )
    result = alone.run(at=f"{TODAY}T20:05")
    assert result.code == 0
    assert KEPT in result.out
    assert charge(alone) == ["BLANC"]


# ---- The TEMPO day -------------------------------------------------------------------------------

DAYS = [  # Paris time, the dates known by then, the period
    ("2026-11-22T21:59", [TODAY, TOMORROW], "HP"),
    ("2026-11-22T22:00", [TODAY, TOMORROW], "HC"),
    ("2026-11-23T00:00", [TODAY, TOMORROW], "HC"),
    ("2026-11-23T05:59", [TODAY, TOMORROW], "HC"),
    ("2026-11-23T06:00", [TOMORROW], "HP"),
    ("2026-11-23T10:59", [TOMORROW], "HP"),
    ("2026-11-23T11:00", [TOMORROW, ANOTHER], "HP"),
    ("2027-01-01T00:30", ["2026-12-31", "2027-01-01"], "HC"),
    # From summer to winter time, 02:00-03:00 comes twice.
    ("2026-10-25T02:30", ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T05:59", ["2026-10-24", "2026-10-25"], "HC"),
    ("2026-10-25T06:00", ["2026-10-25"], "HP"),
    ("2026-10-25T23:59", ["2026-10-25", "2026-10-26"], "HC"),
    # From winter to summer time, 02:00-03:00 is missing.
    ("2027-03-28T03:00", ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T05:59", ["2027-03-27", "2027-03-28"], "HC"),
    ("2027-03-28T06:00", ["2027-03-28"], "HP"),
    ("2027-03-28T23:59", ["2027-03-28", "2027-03-29"], "HC"),
]
ELSEWHERE = {"TZ": "Pacific/Auckland"}


@pytest.mark.parametrize(("at", "dates", "period"), DAYS)
def test_the_tempo_day_and_period_are_those_of_paris_on_any_machine(
    alone: House, at: str, dates: list[str], period: str
) -> None:
    result = alone.run("--dry-run", at=at, env=ELSEWHERE)
    assert result.code == 0
    assert f"période {period}" in result.out
    assert asked_days(alone) == dates


def test_the_programs_own_clock_is_the_one_of_paris(alone: House) -> None:
    alone.meter("BLEU", None, "HC")  # not asked; in HP the house would set a clock at night
    before = datetime.now(PARIS)
    result = alone.run("--dry-run", env=ELSEWHERE)
    moments = before, datetime.now(PARIS)
    assert asked_days(alone)[0] in [str(known_days(now)["aujourdhui"]) for now in moments]
    assert any(f"période {periode_at(now)}" in result.out for now in moments)


# ---- A meter that is still in HP at night --------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "period", "arguments", "told"),
    [
        (HC, "HP", "", True),
        ("2026-11-22T23:59", "HP", "", True),
        ("2026-11-23T00:30", "HP", "", True),
        ("2026-11-23T05:59", "HP", "", True),
        ("2026-11-22T21:59", "HP", "", False),
        ("2026-11-23T06:00", "HP", "", False),
        (HC, "HC", "", False),
        (HC, "HP", "--period HP", False),
        (HC, "HC", "--period HP --today bleu --tomorrow blanc", False),
    ],
)
def test_a_meter_still_in_hp_at_night_is_told_with_its_remedy(
    web: House, at: str, period: str, arguments: str, told: bool
) -> None:
    web.meter("BLEU", "BLANC", period)
    result = web.run(*arguments.split(), at=at)
    assert (result.code, "crontab" in result.err) == (0, told)
    assert told or result.err == ""
    assert web.writes() == [(SOC, '{"value":90}')]
