"""The command line, its output and its exit codes, and the notification."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from gx_simulator import DAY, MIN_SOC, SN, SOC, STATE, GxSimulator
from house import KEY, PROWL_OK, ROOT, SCRIPT, House, Reply, drip, http, silence

import tempo_ess

CHARGED = [(SOC, '{"value":100}')]  # what a run writes on the red eve
AT = {"HP": "2026-11-22T20:05", "HC": "2026-11-22T22:02"}
LOGINS: dict[str, Any] = {"ecouser": "moi", "ecopassword": "hunter2", "gxpassword": "hunter2"}
BASIC = base64.b64encode(b"moi:hunter2").decode()
SECRETS = f"{KEY} | hunter2 | {BASIC}"
# An exit code, what in secret.py makes a run end with it and write nothing, what is said of it.
FAILURES: list[tuple[int, dict[str, Any], str]] = [
    (2, {"gxsn": "?"}, "gxsn"),
    (3, {"ecoinput": 2}, "couleur du jour"),
    (4, {"gxport": 1}, "injoignable"),  # nobody listens there
    (5, {"gxsn": "a" * 12}, SN),
]
BLUE, RED = "MinSoc 30 %, BatteryLife on", "MinSoc 25 %, BatteryLife off"
RED_DAY = {SOC: 100, MIN_SOC: 25.0, STATE: 10}  # what the GX holds on it


@pytest.fixture
def red_eve(house: House) -> House:
    """BLEU today, ROUGE tomorrow, in HP: a run sets the schedule SoC from 80 to 100."""
    house.meter("BLEU", "ROUGE", "HP")
    return house


@pytest.fixture
def gx(house: House) -> GxSimulator:
    return house.gx


def python(house: House, command: str) -> str:
    """A stand-in for the interpreter of House.run: "$@" is -B, the script, its arguments."""
    path = house.folder / "python"
    path.write_text(f"#!/bin/sh\nexec {command}\n")
    path.chmod(0o755)
    return str(path)


def present(words: str, text: str) -> list[str]:
    """Those of the words, between bars, that the text has."""
    return [word for word in words.split(" | ") if word in text]


def absent(words: str, text: str) -> list[str]:
    """Those of the words, between bars, that the text lacks."""
    return [word for word in words.split(" | ") if word not in text]


def only_push(house: House, priority: str) -> str:
    """The text of the one push, which has this priority."""
    (push,) = house.internet.pushes
    assert (push["event"], push["priority"]) == ("EDF TEMPO", priority)
    return push["description"]


# ---- --today, --tomorrow, --period ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "asked", "said", "left"),
    [
        ("--today blanc --tomorrow rOUGE --period hC", 0, "HC (imposée)", (100, 25.0, 11)),
        ("--today ROUGE --period hp", 0, "demain non annoncée, on garde celle", (100, 30.0, 2)),
        ("--today rouge --tomorrow bleu", 1, "BLEU (imposée)", (80, 30.0, 2)),
        ("--today Blanc", 1, "BLANC (imposée)", (100, 30.0, 2)),
        ("--tomorrow blanc", 1, "demain BLANC (imposée)", (90, 30.0, 2)),
        ("--period HC", 1, "HC (imposée)", (100, 25.0, 11)),
    ],
)
def test_only_what_is_not_imposed_is_asked(
    red_eve: House, gx: GxSimulator, arguments: str, asked: int, said: str, left: object
) -> None:
    red_eve.secret(use_api=True)
    result = red_eve.run(*arguments.split(), "--no-notify", at=AT["HC"])
    assert result.code == 0
    assert len(red_eve.eco.requests) == asked
    assert red_eve.internet.connects == []
    assert said in result.out
    assert result.out.count("(imposé") == arguments.count("--")
    assert ("EcoDevice" in result.out) == (asked > 0)
    assert gx.profile() == left


def test_an_imposed_tomorrow_counts_with_a_mute_meter(red_eve: House, gx: GxSimulator) -> None:
    red_eve.meter("BLEU", None, "HC")
    assert red_eve.run("--tomorrow", "rouge", at=AT["HC"]).code == 0
    assert gx.profile() == (100, 25.0, 11)


@pytest.mark.parametrize(
    ("period", "hour", "warned"),
    [("HC", "21:59", True), ("HC", "22:00", False), ("HP", "21:59", False)],
)
def test_hc_imposed_in_hp_hours_warns_of_a_recharge(
    house: House, period: str, hour: str, warned: bool
) -> None:
    imposed = ["--today", "bleu", "--tomorrow", "bleu", "--period", period]
    result = house.run(*imposed, "--quiet", at=f"2026-11-22T{hour}")
    assert result.code == 0
    assert ("heures creuses imposées" in result.err) == warned
    assert bool(result.err) == warned


def test_the_recharge_is_warned_of_before_anything_is_written(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    warned = []
    house.gx.on_write = lambda _: warned.append("heures creuses imposées" in caplog.text)
    imposed = ["--today", "bleu", "--tomorrow", "rouge", "--period", "HC"]
    assert house.run(*imposed, at="2026-11-22T21:59").code == 0
    assert warned == [True] * 3


# ---- --dry-run, --no-notify, --quiet, --verbose --------------------------------------------------


@pytest.mark.parametrize(
    ("place", "arguments", "shown"),
    [
        ("house", ["--dry-run"], "80 % | 100 % | 30 % | 25 % | on | off"),
        ("house", ["--dry-run", "--no-confirm"], "80 % | 100 %"),
        ("test_broker", ["--dry-run"], "100 % | 25 % | off"),
    ],
)
def test_dry_run_shows_the_difference_and_touches_nothing(
    place: str, arguments: list[str], shown: str, request: pytest.FixtureRequest
) -> None:
    house: House = request.getfixturevalue(place)
    house.meter("BLEU", "ROUGE", "HC")
    result = house.run(*arguments, scale=0.2)
    assert (result.code, result.err) == (0, "")
    assert absent(shown, result.out) == []
    assert "confirmé" not in result.out
    assert house.writes() == []
    assert house.internet.connects == []


@pytest.mark.parametrize("option", ["--dry-run", "--no-notify"])
@pytest.mark.parametrize(("code", "changes", "word"), FAILURES)
def test_exit_codes_as_usual_without_a_push(
    red_eve: House, option: str, code: int, changes: dict[str, Any], word: str
) -> None:
    red_eve.secret(**changes)
    result = red_eve.run(option, scale=0.2, limits={"GX_CONNECT": 2})
    assert result.code == code
    assert word in result.err
    assert red_eve.writes() == []
    assert red_eve.internet.connects == []


def test_dry_run_with_a_silent_setting_is_exit_5(red_eve: House, gx: GxSimulator) -> None:
    gx.mute = {SOC}
    assert red_eve.run("--dry-run", scale=0.05).code == 5


@pytest.mark.parametrize(("key", "pushes"), [(KEY, 1), ("", 0)])
def test_quiet_evening_says_nothing_and_is_pushed_only_with_a_key(
    red_eve: House, key: str, pushes: int
) -> None:
    red_eve.secret(prowlkey=key)
    assert red_eve.run("--quiet") == (0, "", "")
    assert red_eve.writes() == CHARGED
    assert len(red_eve.internet.connects) == pushes


def test_default_output_is_a_few_short_lines(house: House) -> None:
    house.meter("BLEU", "ROUGE", "HC")
    result = house.run()
    assert (result.code, result.err) == (0, "")
    colours, *settings = result.out.splitlines()
    assert absent("BLEU | ROUGE | HC | EcoDevice", colours) == []
    for shown in ("80 % | 100 % | confirmé", "30 % | 25 % | confirmé", "on | off | confirmé"):
        assert [line for line in settings if not absent(shown, line)], shown
    assert len(settings) <= 5


def test_verbose_shows_the_traffic_and_no_secret(red_eve: House) -> None:
    red_eve.secret(use_api=True, **LOGINS)
    red_eve.answers["T1_DEMAIN"] = "----"
    red_eve.internet.knows(d2026_11_23="ROUGE")
    result = red_eve.run("--verbose", at=AT["HP"])
    assert result.code == 0
    assert present(SECRETS, result.text) == []
    assert red_eve.eco.requests[0].headers["authorization"] == f"Basic {BASIC}"
    asked = f"http://{red_eve.eco.address}/api/xdevices.json?cmd=10"
    asked += " | https://www.services-rte.com/cms/open_data/v1/tempoLight"
    assert absent(asked, result.out) == []
    exchanged = f'-> R/{SN}/settings | -> W/{SN}/{SOC} {{"value":100}} | <- {SOC[-40:]} {{"max":'
    assert absent(exchanged, result.out) == []


# ---- --version, --help, wrong options ------------------------------------------------------------


def test_version(house: House) -> None:
    assert house.run("--version") == (0, f"tempo_ess {tempo_ess.__version__}\n", "")


def test_help_is_french_and_names_every_option(house: House) -> None:
    result = house.run("--help")
    assert (result.code, result.err) == (0, "")
    options = "config dry-run check today tomorrow period no-confirm no-notify quiet verbose"
    assert [name for name in options.split() if f"--{name}" not in result.out] == []
    assert "couleur" in result.out
    assert present("show this | and exit | program's | argument", result.out.lower()) == []


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ("--foo", "--foo"),
        ("--tod rouge", "--tod"),
        ("--today", "--today"),
        ("--today vert", "--today"),
        ("--period HX", "--period"),
        ("--quiet --verbose", "--verbose et --quiet"),
        ("--dry-run --check", "--check et --dry-run"),
        ("--quiet=3", "--quiet"),
        ("rouge", "un mot de trop"),
    ],
)
def test_wrong_option_is_one_french_sentence(house: House, arguments: str, wrong: str) -> None:
    result = house.run(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert result.err == f"erreur : ligne de commande à corriger : {wrong} (voir --help)\n"


# ---- Wherever and however it is started ----------------------------------------------------------


def test_secret_beside_the_script_is_the_default_from_any_directory(house: House) -> None:
    house.meter("BLEU", "ROUGE", "HC")  # remarked on at no hour, as HP would be at night
    home = house.folder / "home"
    home.mkdir()
    script = shutil.copy(SCRIPT, home)
    shutil.move(house.secret(), home)
    command = f"{sys.executable} {script}"  # without -B and without --config
    result = house.run(executable=python(house, command))
    assert (result.code, result.err) == (0, "")
    assert (SOC, '{"value":100}') in house.writes()
    assert sorted(path.name for path in home.iterdir()) == ["secret.py", "tempo_ess.py"]


@pytest.mark.parametrize(
    "redirection", ["", ">&- 2>&-", ">/dev/full 2>&1"], ids=["closed pipe", "closed", "full disk"]
)
def test_output_that_cannot_be_written_stops_nothing(red_eve: House, redirection: str) -> None:
    shell = python(red_eve, f'{sys.executable} "$@" {redirection}')
    reader, nobody_reads = os.pipe()
    os.close(reader)
    # The exit code may be Python's own.
    red_eve.run("--verbose", executable=shell, stdout=nobody_reads, stderr=nobody_reads)
    os.close(nobody_reads)
    assert red_eve.writes() == CHARGED
    assert len(red_eve.internet.pushes) == 1


def test_missing_package_is_a_sentence(house: House) -> None:
    bare = python(house, f'{sys.executable} -S "$@"')
    code, _, said = house.run(executable=bare)
    assert (code, len(said.splitlines())) == (2, 1)
    assert absent(f"erreur | paho | {ROOT}/.venv/bin/python {SCRIPT} --config", said) == []


# ---- Notification --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "tomorrow", "period", "held", "text"),
    [
        ("BLEU", "ROUGE", "HP", {}, f"Demain ROUGE : charge 100 % (confirmée) ; à 22 h {RED}"),
        ("BLANC", "BLEU", "HP", {}, f"Demain BLEU : charge 80 % (confirmée) ; à 22 h {BLUE}"),
        ("BLEU", "ROUGE", "HC", {SOC: 100}, f"Demain ROUGE, prêt : {RED} (confirmés)"),
        ("ROUGE", "BLEU", "HC", RED_DAY, f"Demain BLEU, prêt : charge 80 %, {BLUE} (confirmés)"),
        ("BLANC", "BLEU", "HC", {}, None),
        ("ROUGE", "ROUGE", "HC", {}, None),
    ],
)
def test_a_colour_change_is_pushed_in_hp_and_in_hc_when_something_changed(
    house: House, today: str, tomorrow: str, period: str, held: Any, text: str | None
) -> None:
    house.meter(today, tomorrow, period)
    house.gx.values |= held  # else what belongs to a blue day
    assert house.run(at=AT[period]).code == 0
    if text:
        assert only_push(house, "1" if tomorrow == "ROUGE" else "0") == text
    else:
        assert house.internet.connects == []


def test_no_confirm_claims_nothing(test_broker: House) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    assert test_broker.run("--no-confirm").code == 0
    text = only_push(test_broker, "1")
    assert text.startswith("Demain ROUGE")
    assert absent("100 % | 25 % | off | publié, non confirmé", text) == []
    assert present("(confirmé | prêt", text) == []


@pytest.mark.parametrize(("day", "told"), [(-11, True), (-1, True), (0, False)])
def test_inactive_schedule_is_said_and_is_no_failure(
    red_eve: House, gx: GxSimulator, day: int, told: bool
) -> None:
    gx.values[DAY] = day
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    said = "Schedule 1 inactif : pas de recharge programmée"
    assert (said in result.out) == told
    assert (said in only_push(red_eve, "1")) == told


def test_push_comes_after_the_gx_work(red_eve: House, gx: GxSimulator) -> None:
    red_eve.internet.prowl = lambda request: http(200 if gx.profile()[0] == 100 else 500, PROWL_OK)
    assert red_eve.run().err == ""


@pytest.mark.parametrize(("code", "changes", "word"), FAILURES[1:])
def test_a_failure_is_pushed_and_keeps_its_code_when_the_push_fails(
    red_eve: House, code: int, changes: dict[str, Any], word: str
) -> None:
    red_eve.secret(**LOGINS, **changes)
    red_eve.internet.prowl = lambda request: silence()
    result = red_eve.run("--quiet", scale=0.2, limits={"GX_CONNECT": 2, "PROWL": 0.5})
    assert (result.code, result.out) == (code, "")
    *_, error, warning = result.err.splitlines()
    assert error.startswith("erreur")
    assert absent("attention | Prowl : pas de réponse à temps", warning) == []
    text = only_push(red_eve, "1")
    assert absent(f"{word} | le GX garde ses réglages", text) == []
    assert present(SECRETS, result.err + text) == []


def test_bug_is_exit_1_with_a_traceback_and_a_push(
    red_eve: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempo_ess, "target_settings", "not a function")
    result = red_eve.run("--quiet")
    assert (result.code, result.out) == (1, "")
    assert "Traceback (most recent call last)" in result.err
    assert KEY not in result.err
    assert "bogue" in only_push(red_eve, "1")


def test_ctrl_c_is_no_bug(red_eve: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempo_ess, "target_settings", mock.Mock(side_effect=KeyboardInterrupt))
    result = red_eve.run("--quiet")
    assert (result.code, red_eve.internet.pushes) == (130, [])
    assert result.err.startswith("erreur : interrompu")


PROWL_FAULTS: dict[str, Callable[[], Reply]] = {
    "refuses the key": lambda: http(401, ""),
    "refuses it with an echo": lambda: http(200, f"<prowl><error code='401'>{KEY}</error></prowl>"),
    "503": lambda: http(503, "<html>"),
    "HTML": lambda: http(200, f"<html><p>{KEY}"),
    "a status line that echoes the key": f"{KEY} {KEY}\r\n\r\n".encode,
    "dripping body": lambda: drip(http(200, b"<?xml"), b" ", 0.1),
}


@pytest.mark.parametrize("fault", PROWL_FAULTS)
def test_prowl_at_fault_changes_nothing_and_shows_no_key(red_eve: House, fault: str) -> None:
    red_eve.internet.prowl = lambda request: PROWL_FAULTS[fault]()
    start = time.monotonic()
    result = red_eve.run("--verbose", scale=0.1)
    # Its 15 s, scaled down to 1.5, and much time for a busy machine.
    assert time.monotonic() - start < 12
    assert result.code == 0
    assert red_eve.writes() == CHARGED
    assert absent("attention | Prowl", result.err) == []
    assert ("vérifiez prowlkey" in result.err) == fault.startswith("refuses")
    assert present(f"Traceback | {KEY}", result.text) == []
