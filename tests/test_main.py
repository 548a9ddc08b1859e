"""The command line, its output and its exit codes, and the notification."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest
from facts import COLOURS
from gx_simulator import DAY, MIN_SOC, SOC, STATE, GxSimulator
from house import KEY, PROWL_OK, ROOT, SCRIPT, Broker, House, Reply, Request, drip, http, silence

import tempo_ess

# Schedule SoC, MinSoc and raw State of a GX that is set for a day of this colour.
PROFILES = {"BLEU": (80, 30.0, 2), "BLANC": (90, 30.0, 2), "ROUGE": (100, 25.0, 10)}
CHARGED = [(SOC, '{"value":100}')]  # what a run writes on the red eve
NIGHT = "2026-11-22T22:02"
Failing = Callable[[int], House]


@pytest.fixture
def red_eve(house: House) -> House:
    """BLEU today, ROUGE tomorrow, in HP: a run sets the schedule SoC from 80 to 100."""
    house.meter("BLEU", "ROUGE", "HP")
    return house


@pytest.fixture
def gx(house: House) -> GxSimulator:
    return house.gx


@pytest.fixture
def failing(red_eve: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    """The red eve with what makes a run end with this exit code and write nothing."""
    locked = Broker(red_eve.folder, "allow_anonymous false")
    monkeypatch.setattr(tempo_ess, "GX_CONNECT", 20)  # a refused login is tried until then
    wrong: dict[int, Any] = {2: {"gxsn": "?"}, 4: {"gxport": locked.port}, 5: {"gxsn": "a" * 12}}

    def fail(code: int) -> House:
        red_eve.names |= wrong.get(code, {})
        if code == 3:
            red_eve.answers["T1_PTEC"] = "TH.."
        return red_eve

    yield fail
    locked.stop()


def python(house: House, command: str) -> str:
    """A stand-in for the interpreter of House.run: "$@" is -B, the script, its arguments."""
    path = house.folder / "python"
    path.write_text(f"#!/bin/sh\nexec {command}\n")
    path.chmod(0o755)
    return str(path)


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
        ("--today bleu --tomorrow Blanc --period Hp", 0, "demain BLANC (imposé)", (90, 30.0, 2)),
        ("--today blanc --tomorrow rOUGE --period hC", 0, "HC (imposée)", (100, 25.0, 11)),
        ("--today ROUGE --period hp", 0, "demain non annoncée, on garde celle", (100, 30.0, 2)),
        ("--today rouge --tomorrow bleu", 1, "BLEU (imposé)", (80, 30.0, 2)),
        ("--today blanc", 1, "BLANC (imposé)", (100, 30.0, 2)),
        ("--tomorrow blanc", 1, "demain BLANC (imposé)", (90, 30.0, 2)),
        ("--period HC", 1, "HC (imposée)", (100, 25.0, 11)),
    ],
)
def test_only_what_is_not_imposed_is_asked(
    red_eve: House, gx: GxSimulator, arguments: str, asked: int, said: str, left: object
) -> None:
    red_eve.secret(use_api=True)
    result = red_eve.run(*arguments.split(), "--no-notify", at=NIGHT)
    assert result.code == 0
    assert len(red_eve.eco.requests) == asked
    assert red_eve.internet.connects == []
    assert said in result.out
    assert result.out.count("(imposé") == arguments.count("--")
    assert ("EcoDevice" in result.out) == (asked > 0)
    assert gx.profile() == left


@pytest.mark.parametrize(
    ("hour", "warned"), [("06:00", True), ("21:59", True), ("22:00", False), ("05:59", False)]
)
def test_hc_imposed_in_hp_hours_warns_of_a_recharge(house: House, hour: str, warned: bool) -> None:
    for period, expected in (("hc", warned), ("hp", False)):
        imposed = ["--today", "bleu", "--tomorrow", "bleu", "--period", period]
        result = house.run(*imposed, "--quiet", at=f"2026-11-22T{hour}")
        assert result.code == 0
        assert ("heures creuses imposées en pleines heures pleines" in result.err) == expected
        assert (result.err != "") == expected


# ---- --dry-run, --no-notify, --quiet, --verbose --------------------------------------------------


def test_dry_run_shows_the_difference_and_touches_nothing(house: House, gx: GxSimulator) -> None:
    house.meter("BLEU", "ROUGE", "HC")
    before = gx.profile()
    result = house.run("--dry-run")
    assert (result.code, result.err) == (0, "")
    assert absent("80 % | 100 % | 25 % | off", result.out) == []
    assert "confirmé" not in result.out
    assert gx.profile() == before
    assert house.writes() == []
    assert house.internet.connects == []


def test_dry_run_on_a_test_broker_publishes_nothing(test_broker: House) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    result = test_broker.run("--dry-run", scale=0.2)
    assert (result.code, result.err) == (0, "")
    assert "100 %" in result.out
    assert test_broker.writes() == []
    assert test_broker.internet.connects == []


@pytest.mark.parametrize("code", [2, 3, 4, 5])
@pytest.mark.parametrize("option", ["--dry-run", "--no-notify"])
def test_exit_codes_as_usual_without_a_push(failing: Failing, code: int, option: str) -> None:
    house = failing(code)
    result = house.run(option, scale=0.2)
    assert result.code == code
    assert result.err.startswith("erreur")
    assert house.writes() == []
    assert house.internet.connects == []


def test_dry_run_with_a_silent_setting_is_exit_5(red_eve: House, gx: GxSimulator) -> None:
    gx.mute = {SOC}
    assert red_eve.run("--dry-run", scale=0.05).code == 5
    assert red_eve.writes() == []
    assert red_eve.internet.connects == []


@pytest.mark.parametrize(("key", "options"), [(KEY, ["--no-notify"]), ("", [])])
def test_no_notify_or_no_key_sets_the_gx_and_pushes_nothing(
    red_eve: House, key: str, options: list[str]
) -> None:
    red_eve.secret(prowlkey=key)
    assert red_eve.run(*options).code == 0
    assert red_eve.writes() == CHARGED
    assert red_eve.internet.connects == []


def test_quiet_evening_says_nothing_at_all(red_eve: House) -> None:
    assert red_eve.run("--quiet") == (0, "", "")
    assert red_eve.writes() == CHARGED
    assert len(red_eve.internet.pushes) == 1


def test_quiet_keeps_warnings(house: House) -> None:
    house.meter("ROUGE", None, "HC")
    result = house.run("--quiet", at=NIGHT)
    assert (result.code, result.out) == (0, "")
    assert "couleur de demain non annoncée, on garde celle du jour" in result.err


def test_default_output_is_a_few_short_lines(house: House) -> None:
    house.meter("BLEU", "ROUGE", "HC")
    result = house.run()
    assert (result.code, result.err) == (0, "")
    colours, *settings = result.out.splitlines()
    assert absent("BLEU | ROUGE | HC | EcoDevice", colours) == []
    for shown in ("80 % | 100 % | confirmé", "30 % | 25 % | confirmé", "on | off | confirmé"):
        assert [line for line in settings if not absent(shown, line)], shown
    assert len(settings) <= 5


@pytest.mark.parametrize("code", [0, 3, 4, 5])
def test_verbose_shows_the_traffic_and_no_secret(failing: Failing, code: int) -> None:
    house = failing(code)
    login = {"ecouser": "moi", "ecopassword": "eco-hunter2", "gxpassword": "gx-hunter2"}
    house.names |= {**login, "use_api": True}
    house.answers["T1_DEMAIN"] = "----"
    house.internet.knows(d2026_11_23="ROUGE")
    result = house.run("--verbose", at="2026-11-22T20:05", scale=0.2)
    assert result.code == code
    secrets = (KEY, "hunter2", base64.b64encode(b"moi:eco-hunter2").decode())
    assert [secret for secret in secrets if secret in result.text] == []
    assert f"http://{house.eco.address}/api/xdevices.json?cmd=10" in result.out
    if code == 0:
        assert house.eco.requests[0].headers["authorization"].startswith("Basic ")
        assert "https://www.services-rte.com/cms/open_data/v1/tempoLight" in result.out
        for kind in ("R/", "W/", "N/"):
            assert f"{kind}c0619ab12345/settings/0" in result.out
        assert '{"value":100}' in result.out


# ---- --version, --help, wrong options ------------------------------------------------------------


def test_version(house: House) -> None:
    assert house.run("--version") == (0, f"tempo_ess {tempo_ess.__version__}\n", "")


def test_help_is_french_and_names_every_option(house: House) -> None:
    result = house.run("--help")
    assert (result.code, result.err) == (0, "")
    options = "config dry-run check today tomorrow period no-confirm no-notify quiet verbose"
    assert [name for name in options.split() if f"--{name}" not in result.out] == []
    assert absent("couleur | é", result.out) == []
    english = "show this | and exit | program's | positional | argument"
    assert absent(english, result.out.lower()) == english.split(" | ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--foo", "--foo : option inconnue"),
        ("rouge", "rouge : option inconnue"),
        ("--tod rouge", "--tod : option inconnue"),
        ("--today", "--today : il manque la valeur"),
        ("--tomorrow --quiet", "--tomorrow : il manque la valeur"),
        ("--today vert", "--today : valeur inconnue"),
        ("--period HX", "--period : valeur inconnue"),
        ("--quiet --verbose", "--verbose et --quiet ne vont pas ensemble"),
        ("--dry-run --check", "--check et --dry-run ne vont pas ensemble"),
        ("--quiet=3", "--quiet ne prend pas de valeur"),
    ],
)
def test_wrong_option_is_one_french_sentence(house: House, arguments: str, said: str) -> None:
    result = house.run(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith(f"erreur : {said}")
    english = "usage | error | argument | expected | invalid | choose | allowed | ambiguous | <"
    assert absent(english, result.err) == english.split(" | ")
    assert house.eco.requests == []
    assert house.internet.connects == []


# ---- Wherever and however it is started ----------------------------------------------------------


@pytest.mark.parametrize("place", ["/", "home", "."])
def test_secret_beside_the_script_is_the_default_from_any_directory(
    house: House, place: str
) -> None:
    house.meter("BLEU", "ROUGE", "HC")  # remarked on at no hour, as HP would be at night
    home = house.folder / "home"
    home.mkdir()
    script = shutil.copy(SCRIPT, home)
    shutil.move(house.secret(), home)
    cwd = house.folder / place
    command = f"{sys.executable} {os.path.relpath(script, cwd)}"  # without -B and without --config
    result = house.run(executable=python(house, command), cwd=cwd)
    assert (result.code, result.err) == (0, "")
    assert (SOC, '{"value":100}') in house.writes()
    assert sorted(path.name for path in home.iterdir()) == ["secret.py", "tempo_ess.py"]


@pytest.mark.parametrize(
    ("env", "said"), [("LC_ALL=C", "confirmé"), ("PYTHONIOENCODING=ascii:strict", "80 % -> 100 %")]
)
def test_accents_are_utf_8_and_stop_nothing(red_eve: House, env: str, said: str) -> None:
    result = red_eve.run(env=dict([env.split("=")]))
    assert (result.code, result.err) == (0, "")
    assert said in result.out
    assert "(confirmée)" in only_push(red_eve, "1")


@pytest.mark.parametrize(
    "redirection", ["", ">&-", ">&- 2>&-", ">/dev/full", ">/dev/full 2>&1"], ids=ascii
)
@pytest.mark.parametrize(
    ("ptec", "written"), [("HPJB", CHARGED), ("TH..", [])], ids=["run", "failure"]
)
def test_output_that_cannot_be_written_stops_nothing(
    red_eve: House, redirection: str, ptec: str, written: object
) -> None:
    red_eve.answers["T1_PTEC"] = ptec
    shell = python(red_eve, f'{sys.executable} "$@" {redirection}')
    reader, nobody_reads = os.pipe()
    os.close(reader)
    # The exit code may be Python's own.
    red_eve.run("--verbose", executable=shell, stdout=nobody_reads, stderr=nobody_reads)
    os.close(nobody_reads)
    assert red_eve.writes() == written
    assert len(red_eve.internet.pushes) == 1


# ---- Bugs, missing packages, Ctrl-C --------------------------------------------------------------


def test_bug_is_exit_1_with_a_traceback_and_a_push(
    red_eve: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempo_ess, "target_settings", "not a function")
    result = red_eve.run("--quiet")
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert result.out == ""
    assert KEY not in result.err
    assert red_eve.writes() == []
    assert "bogue" in only_push(red_eve, "1")


def test_missing_package_is_a_sentence(house: House) -> None:
    bare = python(house, f'{sys.executable} -S "$@"')
    whole = f"{ROOT}/.venv/bin/python {SCRIPT} --config {house.folder}/secret.py"
    said = f"erreur : paho manque à ce Python ; lancez : {whole}\n"
    assert house.run(executable=bare) == (2, "", said)


def test_ctrl_c_ends_with_a_sentence(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempo_ess, "target_settings", interrupt)
    result = house.run("--quiet")
    assert result.code not in (0, 1)
    assert "interrompu" in result.err
    assert len(result.err.splitlines()) == 1


# ---- Notification --------------------------------------------------------------------------------

HP_PUSHES = {
    "BLEU": "Demain BLEU : charge 80 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
    "BLANC": "Demain BLANC : charge 90 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
    "ROUGE": "Demain ROUGE : charge 100 % (confirmée) ; à 22 h MinSoc 25 %, BatteryLife off",
}


@pytest.mark.parametrize("already", [False, True], ids=["to be set", "already set"])
@pytest.mark.parametrize(("today", "tomorrow"), list(permutations(COLOURS, 2)))
def test_colour_change_is_pushed_in_hp(
    house: House, gx: GxSimulator, today: str, tomorrow: str, already: bool
) -> None:
    house.meter(today, tomorrow, "HP")
    held = PROFILES[tomorrow if already else today]
    gx.values |= zip((SOC, MIN_SOC, STATE), held, strict=True)
    assert house.run().code == 0
    text = only_push(house, "1" if tomorrow == "ROUGE" else "0")
    assert text == HP_PUSHES[tomorrow]


@pytest.mark.parametrize(
    ("today", "tomorrow", "soc", "pieces"),
    [
        ("BLEU", "ROUGE", 100, "MinSoc 25 %, BatteryLife off (confirmés)"),
        ("BLEU", "ROUGE", 80, "charge 100 % | MinSoc 25 % | BatteryLife off | (confirmés)"),
        ("ROUGE", "BLANC", 90, "MinSoc 30 %, BatteryLife on (confirmés)"),
        ("ROUGE", "BLEU", 100, "charge 80 % | MinSoc 30 % | BatteryLife on | (confirmés)"),
        ("BLEU", "BLANC", 80, "charge 90 % | (confirmé"),
        ("BLANC", "BLEU", 80, None),
        ("BLEU", "BLANC", 90, None),
    ],
)
def test_colour_change_is_pushed_in_hc_when_something_changed(
    house: House, gx: GxSimulator, today: str, tomorrow: str, soc: int, pieces: str | None
) -> None:
    house.meter(today, tomorrow, "HC")
    _, min_soc, state = PROFILES[today]
    gx.values |= {SOC: soc, MIN_SOC: min_soc, STATE: state}
    assert house.run(at=NIGHT).code == 0
    if pieces is None:
        assert house.internet.connects == []
        return
    text = only_push(house, "1" if tomorrow == "ROUGE" else "0")
    assert text.startswith(f"Demain {tomorrow}, prêt : ")
    assert absent(pieces, text) == []
    assert ("charge" in text) == ("charge" in pieces)


@pytest.mark.parametrize("period", ["HP", "HC"])
@pytest.mark.parametrize("tomorrow", ["ROUGE", None])
def test_no_change_of_colour_is_no_push(house: House, tomorrow: str | None, period: str) -> None:
    house.meter("ROUGE", tomorrow, period)
    assert house.run().code == 0
    assert house.writes() != []
    assert house.internet.connects == []


@pytest.mark.parametrize("period", ["HP", "HC"])
def test_no_confirm_claims_nothing(test_broker: House, period: str) -> None:
    test_broker.meter("BLEU", "ROUGE", period)
    assert test_broker.run("--no-confirm").code == 0
    text = only_push(test_broker, "1")
    assert text.startswith("Demain ROUGE")
    assert absent("100 % | 25 % | off | publié, non confirmé", text) == []
    assert absent("(confirmé | prêt", text) == ["(confirmé", "prêt"]


def test_inactive_schedule_is_said(red_eve: House, gx: GxSimulator) -> None:
    gx.values[DAY] = -7
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    assert "Schedule 1 inactif : pas de recharge programmée" in result.out
    text = only_push(red_eve, "1")
    assert text.startswith(HP_PUSHES["ROUGE"])
    assert "Schedule 1 inactif : pas de recharge programmée" in text


def test_push_comes_after_the_gx_work(red_eve: House, gx: GxSimulator) -> None:
    held: list[Any] = []

    def note(_: Request) -> Reply:
        held.append(gx.profile()[0])
        return http(200, PROWL_OK)

    red_eve.internet.prowl = note
    assert red_eve.run().code == 0
    assert held == [100]


@pytest.mark.parametrize(("code", "word"), [(3, "Base"), (4, "gxpassword"), (5, "c0619ab12345")])
def test_quiet_keeps_errors_and_a_failure_is_pushed_with_priority_1(
    failing: Failing, code: int, word: str
) -> None:
    house = failing(code)
    result = house.run("--quiet", scale=0.2)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("erreur")
    assert word in only_push(house, "1")


def test_refused_setting_is_pushed_with_what_the_gx_kept(red_eve: House, gx: GxSimulator) -> None:
    gx.refused[SOC] = 99
    assert red_eve.run(scale=0.2).code == 5
    assert absent("ROUGE | SoC | 80 %", only_push(red_eve, "1")) == []


ECHO = f'<?xml version="1.0"?><prowl><error code="401">Invalid API key {KEY}</error></prowl>'
PROWL_FAULTS: dict[str, Callable[[], Reply]] = {
    "refuses the key, echoing it": lambda: http(401, ECHO),
    "over its limit": lambda: http(406, ECHO),
    "503": lambda: http(503, "<html>"),
    "HTML": lambda: http(200, f"<html><p>{KEY}"),
    "bytes that are no text": lambda: http(200, b"\xff\xfe\x00\x1b[31m"),
    "a status line that echoes the key": f"{KEY} {KEY}\r\n\r\n".encode,
    "a header that echoes the key": f"HTTP/1.1 401 No\r\nX{KEY}\r\n\r\n".encode,
    "a redirect to the key": lambda: http(302, "", f"Location: nowhere://{KEY}/{KEY}"),
    "closed at once": lambda: b"",
    "silent": silence,
    "dripping body": lambda: drip(http(200, b"<?xml"), b" ", 0.1),
}
REFUSED_KEY = ("refuses the key, echoing it", "a header that echoes the key")  # both a 401


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
    assert ("vérifiez prowlkey" in result.err) == (fault in REFUSED_KEY)
    assert absent(f"Traceback | \x1b | {KEY}", result.text) == ["Traceback", "\x1b", KEY]


@pytest.mark.parametrize("env", ["HTTPS_PROXY=http://127.0.0.1:1", "REQUESTS_CA_BUNDLE="])
def test_prowl_out_of_reach_changes_nothing(red_eve: House, env: str) -> None:
    result = red_eve.run("--verbose", env=dict([env.split("=")]))
    assert result.code == 0
    assert red_eve.writes() == CHARGED
    assert "Prowl" in result.err
    assert absent(f"Traceback | {KEY}", result.text) == ["Traceback", KEY]
    assert red_eve.internet.pushes == []


@pytest.mark.parametrize("code", [3, 4, 5])
def test_prowl_at_fault_leaves_the_exit_code_of_a_failure(failing: Failing, code: int) -> None:
    house = failing(code)
    house.internet.prowl = lambda request: silence()
    result = house.run("--quiet", scale=0.1)
    assert (result.code, result.out) == (code, "")
    assert [line.split(" : ")[0] for line in result.err.splitlines()] == ["attention", "erreur"]
    assert KEY not in result.err
