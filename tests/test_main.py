"""The command line, its output and its exit codes, and the notification."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from gx_simulator import MIN_SOC, SN, SOC, STATE, GxSimulator
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
CRONTAB = (ROOT / "crontab.example").read_text("utf-8")
RED_DAY = {SOC: 100, MIN_SOC: 25.0, STATE: 10}  # what the GX holds on it


@pytest.fixture
def red_eve(house: House) -> House:
    """BLEU today, ROUGE tomorrow, in HP: a run sets the schedule SoC from 80 to 100."""
    house.meter("BLEU", "ROUGE", "HP")
    return house


# For a run with the real clock: no source is asked, and HP is warned of at no hour.
RIGHT_AT_ANY_HOUR = "--today bleu --tomorrow rouge --period HP"


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
    red_eve.internet.knows(d2026_11_23="ROUGE")
    result = red_eve.run(*arguments.split(), "--no-notify", at=AT["HC"])
    assert result.code == 0
    assert len(red_eve.eco.requests) == asked
    asks_web = asked and "--tomorrow" not in arguments
    assert bool(red_eve.internet.connects) == bool(asks_web)
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
        ("test_broker", ["--dry-run"], "broker de test"),
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
    result = red_eve.run(option, scale=0.2, limits={"GX_WORK": 2, "CONNECT_TRY": 0.5})
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
    red_eve.secret(prowlkey=key, use_api=True)
    red_eve.internet.knows(d2026_11_23="ROUGE")
    assert red_eve.run("--quiet") == (0, "", "")
    assert red_eve.writes() == CHARGED
    assert len(red_eve.internet.pushes) == pushes


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


@pytest.mark.parametrize("end", ["--quiet\r", "--quiet \r"], ids=ascii)
def test_a_crontab_pasted_from_windows_works(red_eve: House, end: str) -> None:
    assert red_eve.run(*end.split(" ")) == (0, "", "")
    assert red_eve.writes() == CHARGED


def test_help_is_french_and_names_every_option_in_80_columns(house: House) -> None:
    result = house.run("--help")
    assert (result.code, result.err) == (0, "")
    assert max(len(line) for line in result.out.splitlines()) <= 80
    assert result.out.count("  tempo_ess.py --") == 3, "three examples"
    options = "config dry-run check today tomorrow period no-confirm no-notify quiet verbose"
    assert [name for name in options.split() if f"--{name}" not in result.out] == []
    assert "couleur" in result.out
    assert present("show this | and exit | program's | argument", result.out.lower()) == []


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ("--foo", "option ou mot inconnu : --foo"),
        ("--tod rouge", "option ou mot inconnu : --tod rouge"),
        ("rouge", "option ou mot inconnu : rouge"),
        ("--today", "--today demande une valeur"),
        ("--today --quiet", "--today demande une valeur"),
        ("--config", "--config demande une valeur"),
        ("--today vert", "--today vert : il faut bleu, blanc ou rouge"),
        ("--period HX", "--period HX : il faut HP ou HC"),
        ("--quiet --verbose", "--verbose et --quiet s'excluent"),
        ("--dry-run --check", "--check et --dry-run s'excluent"),
        ("--dry-run --no-confirm", "--no-confirm et --dry-run s'excluent"),
        ("--check --no-confirm", "--no-confirm et --check s'excluent"),
        ("--quiet=3", "--quiet ne prend pas de valeur"),
    ],
)
def test_wrong_option_is_one_french_sentence(house: House, arguments: str, wrong: str) -> None:
    result = house.run(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert result.err == f"erreur : ligne de commande à corriger : {wrong} (voir --help)\n"


# ---- Wherever and however it is started ----------------------------------------------------------


def test_secret_beside_the_script_is_the_default_from_any_directory(house: House) -> None:
    home = house.folder / "home"
    home.mkdir()
    script = shutil.copy(SCRIPT, home)
    shutil.move(house.secret(), home)
    command = f"{sys.executable} {script} {RIGHT_AT_ANY_HOUR}"  # without -B and without --config
    result = house.run(executable=python(house, command))
    assert (result.code, result.err) == (0, "")
    assert house.writes() == CHARGED
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


def test_a_missing_package_outside_the_venv_gives_the_command_with_it(house: House) -> None:
    bare = python(house, f'{sys.executable} -S "$@"')
    code, _, said = house.run(executable=bare)
    assert (code, len(said.splitlines())) == (2, 1)
    assert absent(f"erreur | paho | lancez : {ROOT}/.venv/bin/python {SCRIPT} --config", said) == []


@pytest.fixture
def venv(house: House) -> Path:
    """A copy of the script, beside it a .venv that a system upgrade has left without packages."""
    (house.folder / "home").mkdir()
    shutil.copy(SCRIPT, house.folder / "home")
    made = house.folder / "home/.venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    return made


def test_a_venv_that_lost_its_packages_is_to_be_made_again(house: House, venv: Path) -> None:
    command = python(house, f"{venv}/bin/python {venv.parent}/tempo_ess.py --quiet")
    code, _, said = house.run(executable=command)
    assert (code, len(said.splitlines())) == (2, 1)
    again = (
        f"python3 -m venv --clear {venv} | {venv}/bin/pip install 'paho-mqtt>=2.1' requests pyprowl"
    )
    assert absent(again, said) == []


def test_a_crontab_line_fails_aloud_when_the_venv_points_nowhere(house: House, venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nowhere/python3.11")
    (line,) = {one for one in CRONTAB.splitlines() if one.startswith("5 20 ")}
    command = line.split(" ", 5)[5].replace("tempo-ess", "home")
    shell = {"HOME": str(house.folder), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        ["/bin/sh", "-c", command], env=shell, cwd=house.folder, capture_output=True, check=False
    )
    assert ended.returncode == 127
    assert b"not found" in ended.stderr


def test_no_time_zone_data_is_a_sentence(house: House) -> None:
    result = house.run(executable=python(house, f'{sys.executable} "$@"'), env={"PYTHONTZPATH": ""})
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "sudo apt install tzdata" in result.err


# ---- Notification --------------------------------------------------------------------------------


CHARGE, LESS = "Schedule 1 SoC : 80 % -> 100 %", "Schedule 1 SoC : 100 % -> 80 %"
RED = ["MinSoc : 30 % -> 25 %, confirmé", "BatteryLife : on -> off, confirmé"]
BLUE = ["MinSoc : 25 % -> 30 %, confirmé", "BatteryLife : off -> on, confirmé"]


@pytest.mark.parametrize(
    ("today", "tomorrow", "period", "held", "lines"),
    [
        ("BLEU", "ROUGE", "HP", {}, [f"{CHARGE}, confirmé"]),
        ("BLEU", "ROUGE", "HP", {SOC: 100}, ["Schedule 1 SoC : 100 % -> 100 %, déjà en place"]),
        ("BLEU", "ROUGE", "HC", {}, [f"{CHARGE}, confirmé", *RED]),
        ("ROUGE", "BLEU", "HC", RED_DAY, [f"{LESS}, confirmé", *BLUE]),
        ("BLANC", "BLEU", "HC", {}, None),
        ("ROUGE", "ROUGE", "HC", RED_DAY, None),
    ],
)
def test_a_colour_change_is_pushed_in_hp_and_in_hc_when_something_changed(
    house: House, today: str, tomorrow: str, period: str, held: Any, lines: list[str] | None
) -> None:
    """With the lines of the terminal."""
    house.meter(today, tomorrow, period)
    house.gx.values |= held  # else what belongs to a blue day
    result = house.run(at=AT[period])
    assert (result.code, result.err) == (0, "")
    if lines:
        told = [f"Demain {tomorrow}", *lines]
        assert house.push("1" if tomorrow == "ROUGE" else "0").splitlines() == told
        assert result.out.splitlines()[-len(told) :] == told
    else:
        assert house.internet.connects == []


def test_a_warning_is_pushed_once_after_the_settings(red_eve: House, gx: GxSimulator) -> None:
    """Also when no change of colour is; with the words of the terminal."""
    red_eve.meter("BLEU", "BLEU", "HC")
    gx.values[MIN_SOC] = 20.0
    result = red_eve.run("--quiet")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("attention : MinSoc était à 20 % au lieu de 30 %")
    assert red_eve.push().splitlines() == [
        "Schedule 1 SoC : 80 % -> 80 %, déjà en place",
        "MinSoc : 20 % -> 30 %, confirmé",
        "BatteryLife : on -> on, déjà en place",
        result.err.strip(),
    ]


@pytest.mark.parametrize(
    ("option", "pushes"), [("--quiet", 1), ("--no-notify", 0), ("--dry-run", 0)]
)
def test_a_wrong_value_is_pushed_with_a_key_that_can_be_read(
    red_eve: House, option: str, pushes: int
) -> None:
    red_eve.secret(chgbleu="80", prowkey="x")
    result = red_eve.run(option)
    assert result.code == 2
    assert len(red_eve.internet.pushes) == pushes
    if pushes:
        for words in ("chgbleu = '80'", "prowkey inconnu"):
            assert words in result.err
            assert words in red_eve.push("1")


def test_no_confirm_claims_nothing(test_broker: House) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    assert test_broker.run("--no-confirm").code == 0
    text = test_broker.push("1")
    assert text.startswith("Demain ROUGE")
    assert absent("100 % | 25 % | off | publié, non confirmé", text) == []
    assert ", confirmé" not in text


def test_push_comes_after_the_gx_work(red_eve: House, gx: GxSimulator) -> None:
    red_eve.internet.prowl = lambda request: http(200 if gx.profile()[0] == 100 else 500, PROWL_OK)
    assert red_eve.run().err == ""


@pytest.mark.parametrize(("code", "changes", "word"), FAILURES[1:])
def test_a_failure_is_pushed_and_keeps_its_code_when_the_push_fails(
    red_eve: House, code: int, changes: dict[str, Any], word: str
) -> None:
    red_eve.secret(**LOGINS, **changes)
    red_eve.internet.prowl = lambda request: silence()
    result = red_eve.run(
        "--quiet", scale=0.2, limits={"GX_WORK": 2, "CONNECT_TRY": 0.5, "PROWL_TIMEOUT": 0.5}
    )
    assert (result.code, result.out) == (code, "")
    error, warning = result.err.splitlines()
    assert absent("attention | Prowl : pas de réponse à temps", warning) == []
    text = red_eve.push("1")
    assert absent(f"{word} | le GX garde ses réglages", text) == []
    assert text.startswith(error)
    assert ("Demain ROUGE" in text) == (code != 3)
    assert present(SECRETS, result.err + text) == []


def test_bug_is_exit_1_with_a_traceback_and_a_push(
    red_eve: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempo_ess, "target_settings", "not a function")
    result = red_eve.run("--quiet")
    assert (result.code, result.out) == (1, "")
    assert "Traceback (most recent call last)" in result.err
    assert KEY not in result.err
    assert "bogue" in red_eve.push("1")


@pytest.mark.parametrize("stage", ["target_settings", "push"])
def test_ctrl_c_is_no_bug(red_eve: House, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setattr(tempo_ess, stage, mock.Mock(side_effect=KeyboardInterrupt))
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
