"""The web sources, the TEMPO day and the unknown colours."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations_with_replacement, product

import pytest
import trustme
from facts import COLOURS, PROFILES
from gx_simulator import SOC
from house import PARIS, SCRIPT, WEB, House, Reply, drip, endless, free_port, http, silence

from tempo_ess import BATTERY_LIFE, WEB_SOURCES

TODAY, TOMORROW, ANOTHER = "2026-11-22", "2026-11-23", "2026-11-24"
HP, HC = f"{TODAY}T20:05", f"{TODAY}T22:02"
AT = {"HP": HP, "HC": HC}
KEPT = "couleur de demain non annoncée, on garde celle du jour"
CHARGE = {f'{{"value":{soc}}}': couleur for couleur, (soc, _, _) in PROFILES.items()}
SOURCES = list(WEB)
ELSEWHERE = {"TZ": "Pacific/Auckland"}


@pytest.fixture
def web(house: House) -> House:
    """The simulated house with use_api left at its default."""
    house.secret(use_api=None)
    return house


@pytest.fixture
def alone(house: House) -> House:
    """The house without an EcoDevice."""
    house.secret(use_api=None, use_eco=False, ecodevice=None)
    return house


def questions(
    sources: list[str], today: str = TODAY, tomorrow: str = TOMORROW
) -> list[tuple[str, str]]:
    """The requests with which these sources are asked: one for both days."""
    days = {"today": today, "tomorrow": tomorrow}
    return [(WEB[one].host, WEB[one].target.format(**days)) for one in sources]


def until(source: str) -> list[str]:
    """The sources that are asked before this one, and it."""
    return SOURCES[: SOURCES.index(source) + 1]


def after(source: str) -> list[str]:
    """The sources that are asked after this one."""
    return SOURCES[SOURCES.index(source) + 1 :]


def charge(house: House) -> list[str]:
    """The colours whose charge this run wrote."""
    return [CHARGE[payload] for path, payload in house.writes() if path == SOC]


def test_each_web_source_has_its_peer_in_the_house() -> None:
    assert [source.name for source in WEB_SOURCES] == SOURCES


# ---- Tomorrow, when the meter does not announce it -----------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("tomorrow", COLOURS)
def test_the_first_that_knows_resolves_what_the_meter_leaves_open(
    web: House, source: str, tomorrow: str
) -> None:
    web.internet.knows(d2026_11_22="ROUGE", d2026_11_23=tomorrow)
    for earlier in until(source)[:-1]:
        web.internet.teach(earlier, {TODAY: "ROUGE"})
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert f"aujourd'hui BLEU (EcoDevice), demain {tomorrow} ({source})" in result.out
    assert web.gx.values[SOC] == PROFILES[tomorrow][0]
    assert web.internet.questions == questions(until(source))


OPEN = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def unbelievable(source: str) -> dict[str, Callable[[], Reply]]:
    """Answers of this source that say ROUGE, in a shape that must not be believed."""
    peer, day = WEB[source], f'"{TOMORROW}"'
    ((_, target),) = questions([source])
    good = peer.body(target, {TOMORROW: "ROUGE"})
    other_days = [f'"{ANOTHER}"', f'"{TOMORROW}-fallback"', f'"{TOMORROW}T00:00:00"']
    changes = [*peer.odd, *((day, other) for other in other_days)]
    answers: dict[str, Callable[[], Reply]] = {
        f"{new} for {old}": partial(http, 200, good.replace(old, new)) for old, new in changes
    }
    return answers | {
        "JSON of another shape": partial(http, 200, f"[{good}]"),
        "HTML": partial(http, 200, f"<html>{good}</html>", "Content-Type: application/json"),
        "cut": partial(http, 200, good[:-1]),
        "over 64 KiB": partial(http, 200, " " * 65536 + good),
        "201": partial(http, 201, good),
        "404": partial(http, 404, good),
        "503": partial(http, 503, good),
        "redirect": partial(http, 302, good, "Location: /moved"),
        "closed at once": lambda: b"",
        "mute": silence,
        "a body that drips": partial(drip, OPEN, b" ", 0.05),
        "endless": partial(endless, OPEN, b" " * 65536),
    }


@pytest.mark.parametrize(
    ("source", "reason"), [(source, reason) for source in WEB for reason in unbelievable(source)]
)
def test_the_next_is_asked_when_one_does_not_know(web: House, source: str, reason: str) -> None:
    setattr(web.internet, WEB[source].attribute, lambda asked: unbelievable(source)[reason]())
    for later in after(source):
        web.internet.teach(later, {TOMORROW: "BLANC"})
    for listener in (web.internet.server.listener, web.internet.proxy.listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    start = time.monotonic()
    result = web.run(at=HP, scale=0.2)
    # 15 s for each source; the rest is for a slow machine: a drip lasts 200 s.
    assert time.monotonic() - start < 0.2 * 15 + 15
    # endless offers 64 MiB, the kernel takes some for its buffers.
    assert web.internet.server.sent < 4 * 2**20
    next_one = after(source)[:1]
    assert (result.code, f"{source} : " in result.text) == (0, True)
    assert (KEPT in result.err, charge(web)) == (not next_one, ["BLANC"] * len(next_one))
    assert web.internet.questions == questions(until(source) + next_one)


def test_a_certificate_that_is_not_trusted_is_not_believed(web: House) -> None:
    """A wrong clock, or somebody on the line."""
    web.internet.knows(d2026_11_23="ROUGE")
    trustme.CA().cert_pem.write_to_path(str(web.internet.ca))
    result = web.run("--no-notify", at=HP)
    assert (result.code, KEPT in result.err) == (0, True)
    assert [f"{name} : échec TLS" in result.err for name in SOURCES] == [True] * len(SOURCES)
    asked = [
        line.rpartition(" HTTP/")[0] for line in web.internet.connects
    ]  # 1.0, 1.1 from 3.13 on
    assert asked == [f"CONNECT {one.host}:443" for one in WEB.values()]
    assert web.internet.questions == []


def test_no_login_of_netrc_is_sent_to_anybody(web: House) -> None:
    """A default entry would be sent to every host; the peers refuse it, and requests' own name."""
    (web.folder / ".netrc").write_text("default login stranger password netrc\n")
    web.internet.knows()
    web.internet.teach(SOURCES[-1], {TOMORROW: "ROUGE"})
    assert web.run("--quiet", at=HP) == (0, "", "")
    assert web.gx.values[SOC] == 100
    assert [one for one in web.internet.server.requests if "authorization" in one.headers] == []
    assert web.push("1").startswith("Demain ROUGE")


# ---- Two witnesses for tomorrow ------------------------------------------------------------------


@pytest.mark.parametrize(("source", "period"), [("RTE", "HP"), ("EDF", "HC")])
@pytest.mark.parametrize(("meter", "told"), [*product(COLOURS, COLOURS)])
def test_the_dearer_of_two_witnesses_counts_and_a_warning_names_both(
    web: House, meter: str, told: str, period: str, source: str
) -> None:
    web.meter("BLEU", meter, period)
    web.internet.knows()
    web.internet.teach(source, {TODAY: "ROUGE", TOMORROW: told})
    result = web.run("--quiet", at=AT[period])
    dearer = max(meter, told, key=COLOURS.index)
    assert (result.code, result.out) == (0, "")
    assert web.gx.values[SOC] == PROFILES[dearer][0]
    if meter == told:
        assert result.err == ""
        return
    (warning,) = result.err.splitlines()
    for words in (f"{meter} d'après le compteur (EcoDevice)", f"{told} d'après {source}", dearer):
        assert words in warning
    assert warning in web.push("1" if dearer == "ROUGE" else "0")


def test_when_no_web_source_answers_the_meters_word_counts_and_is_no_warning(web: House) -> None:
    web.meter("BLEU", "ROUGE", "HP")
    result = web.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert "demain ROUGE (EcoDevice)" in result.out
    assert "EDF : réponse HTTP 503" in result.out
    assert charge(web) == ["ROUGE"]


# ---- Tomorrow unknown ----------------------------------------------------------------------------


@pytest.mark.parametrize("period", AT)
@pytest.mark.parametrize("today", COLOURS)
@pytest.mark.parametrize("dead", [False, True], ids=["meter ----", "no EcoDevice"])
def test_an_unknown_tomorrow_is_warned_of_with_each_sources_reason(
    house: House, today: str, period: str, dead: bool
) -> None:
    """Also after a blue day: the web has known it for hours, and it may be red."""
    house.secret(use_api=None, use_eco=not dead)
    house.meter(today, None, period)
    house.internet.knows(d2026_11_22=today)  # RTE has no key, EDF NON_DEFINI
    house.internet.api = lambda request: http(503, "")
    house.gx.values[SOC] = 64
    result = house.run("--quiet", at=AT[period])
    assert result.code == 0
    (warning,) = [line for line in result.err.splitlines() if KEPT in line]
    reasons = [f"RTE : ne connaît pas le {TOMORROW}", f"EDF : ne connaît pas le {TOMORROW}"]
    for words in [*reasons, "api-couleur-tempo.fr : réponse HTTP 503"]:
        assert words in warning
    assert warning in house.push()
    assert charge(house) == ([today] if period == "HP" else []), "in HC the charge is left alone"


@pytest.mark.parametrize("period", AT)
@pytest.mark.parametrize("today", COLOURS)
def test_without_the_web_an_unknown_tomorrow_is_warned_of_in_hc_after_a_costly_day(
    house: House, today: str, period: str
) -> None:
    house.meter(today, None, period)
    house.gx.values[SOC] = PROFILES[today][0]
    result = house.run(at=AT[period])
    warned = period == "HC" and today != "BLEU"
    assert result.code == 0
    assert (KEPT in result.out, KEPT in result.err) == (not warned, warned)
    assert len(house.internet.pushes) == warned


@pytest.mark.parametrize(
    ("use_api", "arguments", "time"),
    [
        (False, "", "20:05"),
        (None, "", "11:59"),
        (None, "", "06:00"),
        (None, "--tomorrow bleu", "20:05"),
        (None, "--today bleu --period HP", "20:05"),
    ],
)
def test_nobody_is_asked(house: House, use_api: object, arguments: str, time: str) -> None:
    house.secret(use_api=use_api)
    house.meter("BLEU", None, "HP")
    house.internet.knows(d2026_11_22="ROUGE", d2026_11_23="ROUGE")
    result = house.run("--no-notify", *arguments.split(), at=f"{TODAY}T{time}")
    assert (result.code, result.err) == (0, "")
    assert (KEPT in result.out) == ("--tomorrow" not in arguments)
    assert house.internet.connects == []


@pytest.mark.parametrize("time", ["12:00", "20:05"])
def test_the_web_is_asked_for_tomorrow_from_12_on(web: House, time: str) -> None:
    web.meter("BLEU", "BLEU", "HP")
    web.internet.knows(d2026_11_23="BLEU")
    assert web.run("--quiet", at=f"{TODAY}T{time}") == (0, "", "")
    assert web.internet.questions == questions(["RTE"])


def test_a_source_that_does_not_know_today_is_no_warning_about_tomorrow(alone: House) -> None:
    """Before 12:00 the web is asked for today alone."""
    alone.internet.knows(d2026_11_22="BLEU")
    alone.internet.rte = lambda request: http(503, "")
    result = alone.run(at=f"{TODAY}T10:00")
    assert (result.code, result.err) == (0, "")
    assert KEPT in result.out
    assert alone.internet.pushes == []


def test_a_day_from_rtes_degraded_mode_is_not_known_by_rte(alone: House) -> None:
    alone.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    values = f'"{TODAY}":"WHITE","{TOMORROW}-fallback":"true","{TOMORROW}":"BLUE"'
    alone.internet.rte = lambda request: http(200, f'{{"values":{{{values}}}}}')
    result = alone.run(at=HP)
    assert result.code == 0
    assert "aujourd'hui BLANC (RTE), demain ROUGE (EDF)" in result.out


# ---- The web alone -------------------------------------------------------------------------------

DEAD = pytest.mark.parametrize("dead", [True, False], ids=["dead EcoDevice", "use_eco = False"])


@DEAD
@pytest.mark.parametrize("period", AT)
def test_the_web_and_the_paris_clock_do_the_evening(house: House, period: str, dead: bool) -> None:
    house.secret(use_api=None, use_eco=dead, ecodevice=f"127.0.0.1:{free_port()}")
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    result = house.run(at=AT[period], scale=0.2 if dead else 1)
    assert (result.code, "EcoDevice" in result.err, bool(result.err)) == (0, dead, dead)
    soc, min_soc, state = house.gx.profile()
    expected = (100, 30, "on") if period == "HP" else PROFILES["ROUGE"]
    assert (soc, min_soc, BATTERY_LIFE.text(state)) == expected


@DEAD
def test_today_unknown_writes_nothing_and_says_why(house: House, dead: bool) -> None:
    address = f"127.0.0.1:{free_port()}"
    house.secret(use_api=None, use_eco=dead, ecodevice=address)
    house.internet.teach("RTE", {"2026-11-20": "ROUGE"})
    house.internet.api = lambda request: http(404, "")
    result = house.run("--quiet", at=HC, scale=0.2 if dead else 1)
    assert (result.code, result.out, house.gx.questions) == (3, "", [])
    [push] = house.internet.pushes
    assert (push["event"], push["priority"]) == ("EDF TEMPO", "1")
    meter = ["EcoDevice", address, "refusée"] if dead else []
    for words in [*SOURCES, "503", "404", *meter]:
        assert words in result.err
        assert words in push["description"]


@pytest.mark.parametrize(("first", "second"), [*combinations_with_replacement(SOURCES, 2)])
def test_each_source_is_asked_for_what_is_still_unknown(
    alone: House, first: str, second: str
) -> None:
    """The first knows today, the second tomorrow; where they are one, it knows both."""
    alone.internet.knows()
    alone.internet.teach(second, {TODAY: "BLANC", TOMORROW: "ROUGE"})
    alone.internet.teach(first, {TODAY: "BLEU"} | ({TOMORROW: "ROUGE"} if first == second else {}))
    result = alone.run(at=HP)
    assert (result.code, result.err) == (0, "")
    assert f"aujourd'hui BLEU ({first}), demain ROUGE ({second})" in result.out
    between = [one for one in after(first) if one in until(second)]
    assert alone.internet.questions == questions(until(first) + between)


# ---- The TEMPO day -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "days", "period", "is_settled"),
    [
        ("2026-11-22T21:59", (TODAY, TOMORROW), "HP", True),
        ("2026-11-22T22:00", (TODAY, TOMORROW), "HC", True),
        ("2026-11-23T05:59", (TODAY, TOMORROW), "HC", True),
        ("2026-11-23T06:00", (TOMORROW, ANOTHER), "HP", False),
        ("2026-11-23T11:59", (TOMORROW, ANOTHER), "HP", False),
        ("2026-11-23T12:00", (TOMORROW, ANOTHER), "HP", True),
        ("2027-01-01T00:30", ("2026-12-31", "2027-01-01"), "HC", True),
        # From summer to winter time the day has 25 hours, the other way 23.
        ("2026-10-25T05:59", ("2026-10-24", "2026-10-25"), "HC", True),
        ("2026-10-25T06:00", ("2026-10-25", "2026-10-26"), "HP", False),
        ("2027-03-28T05:59", ("2027-03-27", "2027-03-28"), "HC", True),
        ("2027-03-28T06:00", ("2027-03-28", "2027-03-29"), "HP", False),
    ],
)
def test_the_tempo_day_and_period_are_those_of_paris_on_any_machine(
    alone: House, at: str, days: tuple[str, str], period: str, is_settled: bool
) -> None:
    """Both days are always asked for; tomorrow's answer counts once it is settled."""
    alone.internet.knows()
    alone.internet.teach(SOURCES[-1], dict(zip(days, ("BLEU", "ROUGE"), strict=True)))
    result = alone.run("--dry-run", at=at, env=ELSEWHERE)
    assert result.code == 0
    assert "aujourd'hui BLEU" in result.out
    assert ("demain ROUGE" in result.out) == is_settled
    assert f"période {period}" in result.out
    assert alone.internet.questions == questions(SOURCES, *days)


def test_the_programs_own_clock_is_the_one_of_paris(alone: House) -> None:
    command = f'{sys.executable} {SCRIPT} "$@"'  # without a clock of the test's
    before = datetime.now(PARIS)
    around = [str(before.date() + timedelta(days)) for days in (-2, -1, 0, 1, 2)]
    alone.internet.teach(SOURCES[0], dict.fromkeys(around, "BLEU"))
    alone.internet.teach(SOURCES[1], dict.fromkeys(around, "BLEU"))
    alone.internet.rte = lambda request: http(503, "")  # EDF's address has the days
    script = alone.folder / "script"
    script.write_text(f"#!/bin/sh\nshift 2\nexec {command}\n")
    script.chmod(0o755)
    result = alone.run("--dry-run", env=ELSEWHERE, executable=str(script))
    assert result.code == 0, result.text
    moments = before, datetime.now(PARIS)
    days = [(moment - timedelta(hours=6)).date() for moment in moments]
    periods = ["HP" if 6 <= moment.hour < 22 else "HC" for moment in moments]
    assert any(f"période {period}" in result.out for period in periods)
    expected = [questions(["EDF"], str(day), str(day + timedelta(1)))[0] for day in days]
    assert alone.internet.questions[1] in expected


# ---- A meter that is still in HP at night --------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "period", "arguments", "told"),
    [
        (HC, "HP", "", True),
        ("2026-11-23T05:59", "HP", "", True),
        ("2026-11-22T21:59", "HP", "", False),
        ("2026-11-23T06:00", "HP", "", False),
        (HC, "HC", "", False),
        (HC, "HC", "--period HP --today bleu --tomorrow blanc", False),
    ],
)
def test_a_meter_still_in_hp_at_night_is_told_with_its_remedy(
    web: House, at: str, period: str, arguments: str, told: bool
) -> None:
    web.meter("BLEU", "BLANC", period)
    result = web.run(*arguments.split(), at=at)
    assert (result.code, "crontab" in result.err) == (0, told)
    assert ("crontab" in web.push()) == told
    assert web.writes() == [(SOC, '{"value":90}')]
