"""The command line, its output and its exit codes, and the notification."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from gx_simulator import DAY, MIN_SOC, SOC, STATE
from house import (
    KEY,
    PROWL_OK,
    ROOT,
    SCRIPT,
    Broker,
    House,
    Reply,
    Request,
    drip,
    endless,
    free_port,
    http,
    silence,
)

import tempo_ess

# Schedule SoC, MinSoc and raw State of a GX that is set for a day of this colour.
PROFILES: dict[str, tuple[int, float, int]] = {
    "BLEU": (80, 30.0, 2),
    "BLANC": (90, 30.0, 2),
    "ROUGE": (100, 25.0, 10),
}


@pytest.fixture
def red_eve(house: House) -> House:
    """BLEU today, ROUGE tomorrow, in HP: a run sets the schedule SoC from 80 to 100."""
    house.meter("BLEU", "ROUGE", "HP")
    return house


@pytest.fixture
def failing(red_eve: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], House]]:
    """The red eve with what makes a run end with this exit code and write nothing."""
    locked = Broker(red_eve.folder, "allow_anonymous false")
    monkeypatch.setattr(tempo_ess, "GX_CONNECT", 20)  # a refused login is tried until then

    def fail(code: int) -> House:
        wrong: dict[int, Any] = {
            2: {"gxsn": "douze"},
            4: {"gxport": locked.port},
            5: {"gxsn": "aaaaaaaaaaaa"},
        }
        red_eve.secret(**wrong.get(code, {}))
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


def gx(house: House) -> tuple[Any, Any, Any]:
    """Schedule SoC, MinSoc and raw State on the simulated GX."""
    assert house.gx
    return house.gx.profile()


def set_gx(house: House, soc: int, min_soc: float, state: int) -> None:
    """Put the simulated GX in this state."""
    assert house.gx
    house.gx.values |= {SOC: soc, MIN_SOC: min_soc, STATE: state}


# ---- --today, --tomorrow, --period ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "tomorrow", "period", "left"),
    [
        ("bleu", "rouge", "hp", (100, 30.0, 2)),
        ("Bleu", "Blanc", "Hp", (90, 30.0, 2)),
        ("BLEU", "ROUGE", "HC", (100, 25.0, 11)),
        ("rouge", "BLEU", "hc", (80, 30.0, 2)),
        ("blanc", "rOUGE", "hC", (100, 25.0, 11)),
    ],
    ids=str,
)
def test_imposed_in_any_case_and_nobody_asked(
    house: House, today: str, tomorrow: str, period: str, left: tuple[int, float, int]
) -> None:
    house.secret(use_api=True)
    imposed = ["--today", today, "--tomorrow", tomorrow, "--period", period]
    result = house.run(*imposed, "--no-notify", at="2026-11-22T22:02")
    assert (result.code, result.err) == (0, "")
    assert gx(house) == left
    assert house.eco.requests == []
    assert house.internet.connects == []
    assert [result.out.count(mark) for mark in ("(imposé)", "(imposée)")] == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "marked", "left"),
    {
        "tomorrow": (["--tomorrow", "blanc"], "demain BLANC (imposé)", (90, 30.0, 2)),
        "today": (["--today", "blanc"], "BLANC (imposé)", (100, 30.0, 2)),
        "period": (["--period", "hc"], "HC (imposée)", (100, 25.0, 11)),
        "both days": (["--today", "rouge", "--tomorrow", "bleu"], "BLEU (imposé)", (80, 30.0, 2)),
    }.values(),
    ids=["tomorrow", "today", "period", "both days"],
)
def test_the_meter_gives_what_is_not_imposed(
    red_eve: House, arguments: list[str], marked: str, left: tuple[int, float, int]
) -> None:
    result = red_eve.run(*arguments, at="2026-11-22T22:02")
    assert result.code == 0
    assert len(red_eve.eco.requests) == 1
    assert marked in result.out
    assert result.out.count("imposé") == len(arguments) // 2
    assert "EcoDevice" in result.out
    assert gx(red_eve) == left


def test_today_and_period_imposed_keep_todays_colour(house: House) -> None:
    house.secret(use_api=True)
    result = house.run("--today", "rouge", "--period", "hp")
    assert result.code == 0
    assert "couleur de demain non annoncée, on garde celle du jour" in result.out
    assert gx(house) == (100, 30.0, 2)
    assert house.eco.requests == []


@pytest.mark.parametrize(
    ("period", "at", "warned"),
    [
        ("hc", "2026-11-22T20:05", True),
        ("hc", "2026-11-22T06:00", True),
        ("hc", "2026-11-22T21:59", True),
        ("hc", "2026-11-22T22:00", False),
        ("hc", "2026-11-22T05:59", False),
        ("hp", "2026-11-22T20:05", False),
        ("hp", "2026-11-22T22:02", False),
    ],
)
def test_hc_imposed_in_hp_hours_warns_of_a_recharge(
    house: House, period: str, at: str, warned: bool
) -> None:
    result = house.run(
        "--today", "bleu", "--tomorrow", "bleu", "--period", period, "--quiet", at=at
    )
    assert result.code == 0
    assert ("heures creuses imposées en pleines heures pleines" in result.err) == warned
    assert (result.err != "") == warned


# ---- --dry-run, --no-notify, --quiet, --verbose --------------------------------------------------


@pytest.mark.parametrize(
    ("period", "shown"), [("HP", ["80 %", "100 %"]), ("HC", ["80 %", "100 %", "25 %", "off"])]
)
def test_dry_run_shows_the_difference_and_touches_nothing(
    house: House, period: str, shown: list[str]
) -> None:
    house.meter("BLEU", "ROUGE", period)
    before = gx(house)
    result = house.run("--dry-run")
    assert (result.code, result.err) == (0, "")
    assert [one for one in shown if one not in result.out] == []
    assert "confirmé" not in result.out
    assert gx(house) == before
    assert house.writes() == []
    assert house.internet.connects == []


@pytest.mark.parametrize("arguments", [(), ("--no-confirm",)], ids=str)
def test_dry_run_on_a_test_broker_publishes_nothing(
    test_broker: House, arguments: tuple[str, ...]
) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    result = test_broker.run("--dry-run", *arguments, scale=0.2)
    assert (result.code, result.err) == (0, "")
    assert "100 %" in result.out
    assert test_broker.writes() == []
    assert test_broker.internet.connects == []


@pytest.mark.parametrize("code", [2, 3, 4, 5])
@pytest.mark.parametrize("option", ["--dry-run", "--no-notify"])
def test_exit_codes_as_usual_without_a_push(
    failing: Callable[[int], House], code: int, option: str
) -> None:
    house = failing(code)
    result = house.run(option, scale=0.2)
    assert result.code == code
    assert result.err.startswith("erreur")
    assert house.writes() == []
    assert house.internet.connects == []


def test_dry_run_with_a_silent_setting_is_exit_5(red_eve: House) -> None:
    assert red_eve.gx
    red_eve.gx.mute = {SOC}
    result = red_eve.run("--dry-run", scale=0.05)
    assert result.code == 5
    assert red_eve.writes() == []
    assert red_eve.internet.connects == []


def test_no_notify_sets_the_gx_and_pushes_nothing(red_eve: House) -> None:
    assert red_eve.run("--no-notify").code == 0
    assert gx(red_eve)[0] == 100
    assert red_eve.internet.connects == []


def test_quiet_evening_says_nothing_at_all(red_eve: House) -> None:
    assert red_eve.run("--quiet") == (0, "", "")
    assert gx(red_eve)[0] == 100
    assert len(red_eve.internet.pushes) == 1


def test_quiet_keeps_warnings(house: House) -> None:
    house.meter("ROUGE", None, "HC")
    result = house.run("--quiet", at="2026-11-22T22:02")
    assert (result.code, result.out) == (0, "")
    assert "couleur de demain non annoncée, on garde celle du jour" in result.err


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_quiet_keeps_errors(failing: Callable[[int], House], code: int) -> None:
    result = failing(code).run("--quiet", scale=0.2)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("erreur")


def test_default_output_is_a_few_short_lines(red_eve: House) -> None:
    red_eve.meter("BLEU", "ROUGE", "HC")
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    colours, *settings = result.out.splitlines()
    assert [word for word in ("BLEU", "ROUGE", "HC", "EcoDevice") if word not in colours] == []
    assert [line for line in settings if "80 %" in line and "100 %" in line and "confirmé" in line]
    assert [line for line in settings if "30 %" in line and "25 %" in line and "confirmé" in line]
    assert [line for line in settings if "on" in line and "off" in line and "confirmé" in line]
    assert len(settings) <= 5


@pytest.mark.parametrize("code", [0, 3, 4, 5])
def test_verbose_shows_the_traffic_and_no_secret(
    red_eve: House, failing: Callable[[int], House], code: int
) -> None:
    red_eve.names |= {
        "ecouser": "moi",
        "ecopassword": "eco-hunter2",
        "gxpassword": "gx-hunter2",
        "use_api": True,
    }
    red_eve.answers["T1_DEMAIN"] = "----"
    red_eve.internet.knows(d2026_11_23="ROUGE")
    house = failing(code)
    result = house.run("--verbose", at="2026-11-22T20:05", scale=0.2)
    assert result.code == code
    secrets = (KEY, "hunter2", base64.b64encode(b"moi:eco-hunter2").decode())
    assert [secret for secret in secrets if secret in result.text] == []
    assert f"http://{house.eco.address}/api/xdevices.json?cmd=10" in result.out
    if code == 0:
        assert house.eco.requests[0].headers["authorization"].startswith("Basic ")
        assert "https://www.services-rte.com/cms/open_data/v1/tempoLight" in result.out
        assert [
            kind
            for kind in ("R/", "W/", "N/")
            if f"{kind}c0619ab12345/settings/0" not in result.out
        ] == []
        assert '{"value":100}' in result.out


# ---- --version, --help, wrong options ------------------------------------------------------------


def test_version(house: House) -> None:
    assert house.run("--version") == (0, f"tempo_ess {tempo_ess.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_french_and_names_every_option(house: House, option: str) -> None:
    result = house.run(option)
    assert (result.code, result.err) == (0, "")
    imposed = ["--today", "--tomorrow", "--period"]
    options = [
        "--config",
        "--dry-run",
        "--check",
        "--no-confirm",
        "--no-notify",
        "--quiet",
        "--verbose",
        "--version",
    ]
    assert [name for name in imposed + options if name not in result.out] == []
    assert "couleur" in result.out
    assert "é" in result.out
    english = ("show this", "and exit", "program's", "positional", "argument")
    assert [words for words in english if words in result.out.lower()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--foo"], "--foo : option inconnue"),
        (["-q"], "-q : option inconnue"),
        (["rouge"], "rouge : option inconnue"),
        (["--"], "-- : option inconnue"),
        (["--tod", "rouge"], "--tod : option inconnue"),
        (["--today"], "--today : il manque la valeur"),
        (["--tomorrow", "--quiet"], "--tomorrow : il manque la valeur"),
        (["--config"], "--config : il manque la valeur"),
        (["--today", "vert"], "--today : valeur inconnue"),
        (["--tomorrow="], "--tomorrow : valeur inconnue"),
        (["--tomorrow", "----"], "--tomorrow : "),
        (["--period", "HX"], "--period : valeur inconnue"),
        (["--quiet", "--verbose"], "--verbose et --quiet ne vont pas ensemble"),
        (["--dry-run", "--check"], "--check et --dry-run ne vont pas ensemble"),
        (["--check", "--dry-run"], "--dry-run et --check ne vont pas ensemble"),
        (["--quiet=3"], "--quiet ne prend pas de valeur"),
        (["--version=3"], "--version ne prend pas de valeur"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_wrong_option_is_one_french_sentence(house: House, arguments: list[str], said: str) -> None:
    result = house.run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith(f"erreur : {said}")
    english = (
        "usage",
        "error",
        "argument",
        "expected",
        "invalid",
        "choose",
        "allowed",
        "ambiguous",
        "ignored",
        "<",
    )
    assert [word for word in english if word in result.err] == []
    assert house.eco.requests == []
    assert house.internet.connects == []


# ---- Wherever and however it is started ----------------------------------------------------------


@pytest.mark.parametrize("place", ["root", "home", "above"])
def test_secret_beside_the_script_is_the_default_from_any_directory(
    red_eve: House, place: str
) -> None:
    red_eve.meter("BLEU", "ROUGE", "HC")  # remarked on at no hour, as HP would be at night
    home = red_eve.folder / "home"
    home.mkdir()
    script = shutil.copy(SCRIPT, home)
    shutil.move(red_eve.secret(), home)
    cwd = {"root": Path("/"), "home": home, "above": red_eve.folder}[place]
    command = f"{sys.executable} {os.path.relpath(script, cwd)}"  # without -B and without --config
    result = red_eve.run(executable=python(red_eve, command), cwd=cwd)
    assert (result.code, result.err) == (0, "")
    assert gx(red_eve)[0] == 100
    assert sorted(path.name for path in home.iterdir()) == ["secret.py", "tempo_ess.py"]


@pytest.mark.parametrize(
    "env",
    [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "C.UTF-8"}, {"PYTHONIOENCODING": "utf-8"}],
    ids=str,
)
def test_accents_are_utf_8(red_eve: House, env: dict[str, str]) -> None:
    result = red_eve.run(env=env)
    assert (result.code, result.err) == (0, "")
    assert "confirmé" in result.out
    assert "(confirmée)" in red_eve.internet.pushes[0]["description"]


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "iso-8859-1"},
        {"LC_ALL": "fr_FR.ISO-8859-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([], 0, "80 % -> 100 %", id="run"),
        pytest.param(["--help"], 0, "--dry-run", id="help"),
        pytest.param(["--today", "été"], 2, "--today", id="wrong option"),
        pytest.param(["--config", "/près/d'ici/🔋.py"], 2, "secret.py.example", id="no file"),
    ],
)
def test_output_that_knows_no_accents_stops_nothing(
    red_eve: House, env: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    result = red_eve.run(*arguments, env=env, errors="replace")
    assert result.code == code
    assert said in result.text
    assert "Traceback" not in result.err
    assert gx(red_eve)[0] == (80 if arguments else 100)


OUTPUTS: dict[
    str, tuple[str, list[str]]
] = {  # the shell's redirection, and what is a pipe that nobody reads
    "stdin closed": ("<&-", []),
    "stdout closed": (">&-", []),
    "stderr closed": ("2>&-", []),
    "both closed": (">&- 2>&-", []),
    "all closed": ("<&- >&- 2>&-", []),
    "stdout full": (">/dev/full", []),
    "stderr full": ("2>/dev/full", []),
    "both full": (">/dev/full 2>&1", []),
    "stdout broken": ("", ["stdout"]),
    "stderr broken": ("", ["stderr"]),
    "both broken": ("", ["stdout", "stderr"]),
}


@pytest.mark.parametrize(("redirection", "piped"), OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize(
    ("arguments", "ptec", "left"),
    [
        pytest.param(["--verbose"], "HPJB", 100, id="run"),
        pytest.param([], "TH..", 80, id="failure"),
    ],
)
def test_output_that_cannot_be_written_stops_nothing(
    red_eve: House, redirection: str, piped: list[str], arguments: list[str], ptec: str, left: int
) -> None:
    red_eve.answers["T1_PTEC"] = ptec
    reader, writer = os.pipe()
    os.close(reader)
    command = f'{sys.executable} "$@" {redirection}'
    streams: dict[str, Any] = dict.fromkeys(piped, writer)
    # The exit code may be Python's own.
    red_eve.run(*arguments, executable=python(red_eve, command), **streams)
    os.close(writer)
    assert gx(red_eve)[0] == left
    assert len(red_eve.internet.pushes) == 1


# ---- Bugs, missing packages, Ctrl-C --------------------------------------------------------------


@pytest.mark.parametrize("option", ["", "--quiet", "--no-notify"])
def test_bug_is_exit_1_with_a_traceback_and_a_push(red_eve: House, option: str) -> None:
    driver = red_eve.folder / "driver.py"
    driver.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport tempo_ess\n"
        "raise SystemExit(tempo_ess.main(sys.argv[1:], lambda: 'not a time'))\n"
    )
    # shift: the driver in place of -B and the script.
    command = f'sh -c \'shift 2; exec {sys.executable} -B {driver} "$@"\' sh "$@"'
    result = red_eve.run(*filter(None, [option]), executable=python(red_eve, command))
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert "Traceback" not in result.out
    assert KEY not in result.text
    assert red_eve.writes() == []
    pushed = [(push["event"], push["priority"]) for push in red_eve.internet.pushes]
    assert pushed == ([] if option == "--no-notify" else [("EDF TEMPO", "1")])


@pytest.mark.parametrize("missing", ["paho", "pyprowl", "requests"])
@pytest.mark.parametrize("streams", ["", ">&- 2>&-", ">/dev/full 2>&1"])
def test_missing_package_is_a_sentence(red_eve: House, missing: str, streams: str) -> None:
    packages = red_eve.folder / "packages"
    packages.mkdir()
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if installed.name != missing and installed.suffix != ".pth":
            (packages / installed.name).symlink_to(installed)
    command = f'{sys.executable} -S "$@" {streams}'
    result = red_eve.run(executable=python(red_eve, command), env={"PYTHONPATH": str(packages)})
    assert (result.code, result.out) == (2, "")
    if not streams:
        whole = f"{ROOT}/.venv/bin/python {SCRIPT} --config {red_eve.folder}/secret.py"
        assert result.err == f"erreur : {missing} manque à ce Python ; lancez : {whole}\n"


@pytest.mark.parametrize("moment", ["EcoDevice", "GX", "Prowl"])
def test_ctrl_c_ends_with_a_sentence(red_eve: House, moment: str) -> None:
    assert red_eve.gx
    running: Future[Popen[str]] = Future()

    def interrupt(asked: Request | str) -> Reply:
        if asked != SOC:  # the question for Day comes once, so that the interrupt does
            running.result(20).send_signal(signal.SIGINT)
        return silence()

    if moment == "EcoDevice":
        red_eve.eco.reply = interrupt
    elif moment == "Prowl":
        red_eve.internet.prowl = interrupt
    else:
        red_eve.gx.up = False
        red_eve.gx.on_question = interrupt  # type: ignore[assignment]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # the run would inherit an ignored one (nohup, &)
    running.set_result(red_eve.start())
    out, err = running.result().communicate(timeout=100)
    assert running.result().returncode not in (0, 1)
    assert "Traceback" not in out + err
    assert "interrompu" in err
    assert len(err.splitlines()) == 1


# ---- Notification --------------------------------------------------------------------------------


def told(house: House) -> list[tuple[str, str, str]]:
    """Event, text and priority of every push."""
    return [(one["event"], one["description"], one["priority"]) for one in house.internet.pushes]


HP_PUSHES = {
    (
        "BLEU",
        "BLANC",
    ): "Demain BLANC : charge 90 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
    (
        "BLEU",
        "ROUGE",
    ): "Demain ROUGE : charge 100 % (confirmée) ; à 22 h MinSoc 25 %, BatteryLife off",
    ("BLANC", "BLEU"): "Demain BLEU : charge 80 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
    (
        "BLANC",
        "ROUGE",
    ): "Demain ROUGE : charge 100 % (confirmée) ; à 22 h MinSoc 25 %, BatteryLife off",
    ("ROUGE", "BLEU"): "Demain BLEU : charge 80 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
    (
        "ROUGE",
        "BLANC",
    ): "Demain BLANC : charge 90 % (confirmée) ; à 22 h MinSoc 30 %, BatteryLife on",
}


@pytest.mark.parametrize("already", [False, True], ids=["to be set", "already set"])
@pytest.mark.parametrize(("today", "tomorrow"), HP_PUSHES)
def test_colour_change_is_pushed_in_hp(
    house: House, today: str, tomorrow: str, already: bool
) -> None:
    house.meter(today, tomorrow, "HP")
    set_gx(house, *PROFILES[tomorrow if already else today])
    assert house.run().code == 0
    priority = "1" if tomorrow == "ROUGE" else "0"
    assert told(house) == [("EDF TEMPO", HP_PUSHES[today, tomorrow], priority)]


@pytest.mark.parametrize(
    ("today", "tomorrow", "soc", "pieces"),
    [
        ("BLEU", "ROUGE", 100, ["MinSoc 25 %, BatteryLife off (confirmés)"]),
        ("BLEU", "ROUGE", 80, ["charge 100 %", "MinSoc 25 %", "BatteryLife off", "(confirmés)"]),
        ("ROUGE", "BLANC", 90, ["MinSoc 30 %, BatteryLife on (confirmés)"]),
        ("ROUGE", "BLEU", 100, ["charge 80 %", "MinSoc 30 %", "BatteryLife on", "(confirmés)"]),
        ("BLEU", "BLANC", 80, ["charge 90 %", "(confirmé"]),
        ("BLANC", "BLEU", 80, None),
        ("BLEU", "BLANC", 90, None),
    ],
)
def test_colour_change_is_pushed_in_hc_when_something_changed(
    house: House, today: str, tomorrow: str, soc: int, pieces: list[str] | None
) -> None:
    house.meter(today, tomorrow, "HC")
    set_gx(house, soc, *PROFILES[today][1:])
    assert house.run(at="2026-11-22T22:02").code == 0
    if pieces is None:
        assert told(house) == []
        return
    ((event, text, priority),) = told(house)
    assert (event, priority) == ("EDF TEMPO", "1" if tomorrow == "ROUGE" else "0")
    assert text.startswith(f"Demain {tomorrow}, prêt : ")
    assert [piece for piece in pieces if piece not in text] == []
    assert ("charge" in text) == any("charge" in piece for piece in pieces)


def test_second_run_in_hc_pushes_nothing(house: House) -> None:
    house.meter("BLEU", "ROUGE", "HC")
    assert [house.run(at="2026-11-22T22:02").code for _ in range(2)] == [0, 0]
    assert len(told(house)) == 1


@pytest.mark.parametrize("period", ["HP", "HC"])
@pytest.mark.parametrize(
    ("today", "tomorrow"), [("BLANC", "BLANC"), ("ROUGE", "ROUGE"), ("ROUGE", None)]
)
def test_no_change_of_colour_is_no_push(
    house: House, today: str, tomorrow: str | None, period: str
) -> None:
    house.meter(today, tomorrow, period)
    assert house.run().code == 0
    assert house.writes() != []
    assert told(house) == []


@pytest.mark.parametrize("period", ["HP", "HC"])
def test_no_confirm_claims_nothing(test_broker: House, period: str) -> None:
    test_broker.meter("BLEU", "ROUGE", period)
    assert test_broker.run("--no-confirm").code == 0
    ((_, text, priority),) = told(test_broker)
    assert text.startswith("Demain ROUGE")
    assert [
        piece for piece in ("100 %", "25 %", "off", "publié, non confirmé") if piece not in text
    ] == []
    assert [claim for claim in ("(confirmé", "prêt") if claim in text] == []
    assert priority == "1"


def test_inactive_schedule_is_said(red_eve: House) -> None:
    assert red_eve.gx
    red_eve.gx.values[DAY] = -7
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    assert "Schedule 1 inactif : pas de recharge programmée" in result.out
    ((_, text, _),) = told(red_eve)
    assert text.startswith(HP_PUSHES["BLEU", "ROUGE"])
    assert "Schedule 1 inactif : pas de recharge programmée" in text


def test_push_comes_after_the_gx_work(red_eve: House) -> None:
    held: list[Any] = []

    def note(_: Request) -> Reply:
        held.append(gx(red_eve)[0])
        return http(200, PROWL_OK)

    red_eve.internet.prowl = note
    assert red_eve.run().code == 0
    assert held == [100]


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_failure_is_pushed_with_priority_1(failing: Callable[[int], House], code: int) -> None:
    house = failing(code)
    assert house.run(scale=0.2).code == code
    if code == 2:
        assert house.internet.connects == []
        return
    ((event, text, priority),) = told(house)
    assert (event, priority) == ("EDF TEMPO", "1")
    assert {3: "Base", 4: "gxpassword", 5: "c0619ab12345"}[code] in text


@pytest.mark.parametrize("period", ["HP", "HC"])
def test_refused_setting_is_pushed_with_what_the_gx_kept(house: House, period: str) -> None:
    assert house.gx
    house.meter("BLEU", "ROUGE", period)
    house.gx.refused[SOC] = 99
    result = house.run(scale=0.2)
    assert result.code == 5
    ((_, text, priority),) = told(house)
    assert priority == "1"
    assert [piece for piece in ("ROUGE", "SoC", "80 %") if piece not in text] == []


def test_test_broker_is_a_failure_push(test_broker: House) -> None:
    test_broker.meter("BLEU", "ROUGE", "HP")
    assert test_broker.run(scale=0.2).code == 5
    ((_, text, priority),) = told(test_broker)
    assert priority == "1"
    assert "(confirmée)" not in text


def test_without_a_key_nobody_is_told(red_eve: House) -> None:
    red_eve.secret(prowlkey="")
    assert red_eve.run().code == 0
    assert red_eve.internet.connects == []


ECHO = f'<?xml version="1.0"?><prowl><error code="401">Invalid API key {KEY}</error></prowl>'
PROWL_FAULTS: dict[str, Callable[[], Reply]] = {
    "refuses the key, echoing it": lambda: http(401, ECHO),
    "over its limit": lambda: http(406, ECHO),
    "500": lambda: http(500, ECHO),
    "503": lambda: http(503, "<html>"),
    "an unlisted status": lambda: http(418, KEY),
    "HTML": lambda: http(200, f"<html><p>{KEY}"),
    "an empty body": lambda: http(200, ""),
    "other XML": lambda: http(200, f"<a>{KEY}</a>"),
    "bytes that are no text": lambda: http(200, b"\xff\xfe\x00\x1b[31m"),
    "a status line that echoes the key": f"{KEY} {KEY}\r\n\r\n".encode,
    "a header that echoes the key": f"HTTP/1.1 401 No\r\nX{KEY}\r\n\r\n".encode,
    "a redirect to the key": lambda: http(302, "", f"Location: nowhere://{KEY}/{KEY}"),
    "a redirect loop": lambda: http(
        302, "", "Location: https://api.prowlapp.com/publicapi/add?" + KEY
    ),
    "closed at once": lambda: b"",
    "cut in its headers": lambda: b"HTTP/1.1 200 OK\r\nContent-Len",
    "silent": silence,
    "dripping headers": lambda: drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.1),
    "dripping body": lambda: drip(http(200, b"<?xml"), b" ", 0.1),
    "an endless body": lambda: endless(http(200, b"<?xml"), b" " * 4096),
}


REFUSED_KEY = ("refuses the key, echoing it", "a header that echoes the key")  # both a 401


@pytest.mark.parametrize("fault", PROWL_FAULTS)
def test_prowl_at_fault_changes_nothing_and_shows_no_key(red_eve: House, fault: str) -> None:
    red_eve.internet.prowl = lambda request: PROWL_FAULTS[fault]()
    start = time.monotonic()
    result = red_eve.run("--verbose", scale=0.1)
    assert (
        time.monotonic() - start < 12
    )  # its 15 s, scaled down to 1.5, and much time for a busy machine
    assert result.code == 0
    assert gx(red_eve)[0] == 100
    assert "attention" in result.err
    assert "Prowl" in result.err
    assert ("vérifiez prowlkey" in result.err) == (fault in REFUSED_KEY)
    assert "Traceback" not in result.err
    assert "\x1b" not in result.text
    assert KEY not in result.text


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}, id="connection refused"),
        pytest.param({"REQUESTS_CA_BUNDLE": "/nowhere.pem"}, id="no certificates"),
        pytest.param({"REQUESTS_CA_BUNDLE": ""}, id="unknown authority"),
    ],
)
def test_prowl_out_of_reach_changes_nothing(red_eve: House, env: dict[str, str]) -> None:
    result = red_eve.run("--verbose", env=env)
    assert result.code == 0
    assert gx(red_eve)[0] == 100
    assert "Prowl" in result.err
    assert "Traceback" not in result.err
    assert KEY not in result.text
    assert red_eve.internet.pushes == []


@pytest.mark.parametrize("fault", ["silent", "503"])
@pytest.mark.parametrize("code", [3, 4, 5])
def test_prowl_at_fault_leaves_the_exit_code_of_a_failure(
    failing: Callable[[int], House], code: int, fault: str
) -> None:
    house = failing(code)
    house.internet.prowl = lambda request: PROWL_FAULTS[fault]()
    result = house.run("--quiet", scale=0.1)
    assert (result.code, result.out) == (code, "")
    assert [line.split(" : ")[0] for line in result.err.splitlines()] == ["attention", "erreur"]
    assert KEY not in result.err
