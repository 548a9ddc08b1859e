"""The README, the docstring, --help and the two example files say what the code does today."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path

import gx_simulator
import pytest
from house import ROOT, SCRIPT, House

import tempo_ess
from tempo_ess import BATTERY_LIFE, MIN_SOC, SOC, Config, Couleur, Exit, Periode, Tempo

README = (ROOT / "README.md").read_text("utf-8")
DOCSTRING = tempo_ess.__doc__ or ""
SECRET = (ROOT / "secret.py.example").read_text("utf-8")
CRONTAB = (ROOT / "crontab.example").read_text("utf-8")
REQUIRED = 'ecodevice = "192.0.2.1"\ngx = "192.0.2.2"\ngxsn = "123456789abc"\n'
SCRIPT_LINE = "test -x /opt/tempo-ess/.venv/bin/python && /opt/tempo-ess/.venv/bin/python /opt/tempo-ess/tempo_ess.py"


def table(head: str) -> list[list[str]]:
    """The cells, row by row, of the README's table whose first line starts so."""
    body = README.partition(f"\n| {head} |")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]


# ---- Tables --------------------------------------------------------------------------------------


def test_colour_tables_are_the_default_profiles() -> None:
    night = datetime(2026, 11, 22, 22, 2)
    rows = []
    for couleur in Couleur:
        target = tempo_ess.target_settings(Tempo(couleur, couleur, Periode.HC), Config(), night)
        rows.append([couleur, *(setting.text(target[setting]) for setting in (SOC, BATTERY_LIFE, MIN_SOC))])
    head = ["couleur de demain", "charge (Schedule 1)", "BatteryLife", "MinSoc"]
    assert table(head[0]) == rows
    assert f"| {' | '.join(head)} |" in README
    told = [re.split(r"\s{2,}", line.strip()) for line in DOCSTRING.splitlines()]
    assert [line for line in told if len(line) == 4] == [head, *rows]


def test_exit_code_tables_agree_and_are_complete() -> None:
    told = re.findall(r"(?m)^  (\d)\s{2,}(.+)$", DOCSTRING)
    assert [int(code) for code, _ in told] == list(Exit)
    rows = table("code")
    assert [(code, meaning) for code, meaning, _ in rows] == told
    assert all(advice for _, _, advice in rows)


def test_option_table_is_the_help() -> None:
    answer = subprocess.run(
        [sys.executable, "-B", SCRIPT, "--help"],
        env=os.environ | {"COLUMNS": "200", "PYTHONUTF8": "1", "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    ).stdout
    options = re.findall(r"(?m)^  (-.+?)\s{2,}(.+)$", answer)
    assert len(options) > 10
    assert [(option.strip("`"), effect) for option, effect in table("option")] == options


def test_configuration_table_names_every_name_with_its_default(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(REQUIRED)
    defaults = tempo_ess.load_config(secret)._asdict()
    shown = {name: repr([*value] if isinstance(value, tuple) else value) for name, value in defaults.items()}
    cells = {name: "aucun" if text in ("''", "0") else f"`{text}`".replace("'", '"') for name, text in shown.items()}
    cells |= {"ecodevice": "obligatoire avec `use_eco`", "gx": "obligatoire", "gxsn": "obligatoire"}
    assert [(name.strip("`"), default) for name, default, _ in table("nom")] == [*cells.items()]


# ---- Installation --------------------------------------------------------------------------------


def test_install_step_names_the_packages_of_pyproject() -> None:
    line = re.search(r"\.venv/bin/pip install (.+)", README)
    assert line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert shlex.split(line[1]) == project["dependencies"]


def test_openssl_command_is_the_one_that_the_script_shows(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(REQUIRED + "gxtls = True\n")
    with pytest.raises(tempo_ess.Failure) as failure:
        tempo_ess.load_config(secret)
    shown = re.search(r"openssl .*", str(failure.value))
    assert shown
    assert f"```sh\n{shown[0]}\n```" in README


def test_the_files_and_commands_that_the_readme_names_exist() -> None:
    named = {*re.findall(r"\bsh (tests/\w+\.sh)", README), *re.findall(r"\]\(([\w.]+)\)", README)}
    assert named == {"tests/demo.sh", "tests/run.sh", "crontab.example", "LICENSE"}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


# ---- secret.py.example ---------------------------------------------------------------------------


def test_secret_example_loads_as_it_is(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(SECRET, "utf-8")
    config, problems, hints = tempo_ess.examine(secret)
    assert (problems, hints) == ([], [])
    secret.write_text(REQUIRED)
    assert config == tempo_ess.load_config(secret)


def test_secret_example_shows_every_name_once_with_its_default(tmp_path: Path) -> None:
    assert sorted(re.findall(r"(?m)^#?(\w+) = ", SECRET)) == sorted(Config._fields)
    secret = tmp_path / "secret.py"
    secret.write_text(re.sub(r"(?m)^#(\w+ = )", r"\1", SECRET), "utf-8")
    config, problems, hints = tempo_ess.examine(secret)
    assert (problems, hints) == ([], [])
    secret.write_text(SECRET, "utf-8")
    defaults = tempo_ess.load_config(secret)._asdict() | {"relais": 1, "relais_couleurs": ["BLANC", "ROUGE"]}
    assert config._asdict() == defaults


# ---- crontab.example -----------------------------------------------------------------------------

SUMMER = " --today bleu --tomorrow bleu --period HC"
ACTIVE = [
    ("5 20 * 1-3,9-12 *", ""),
    ("2 22 * 1-3,9-12 *", ""),
    ("2 22 1 4 *", SUMMER),
]
COMMENTED = [
    ("47 22 * 1-3,9-12 *", ""),
    ("5 20 * * *", ""),
    ("2 22 * * *", ""),
    ("5 6 * 1-3,9-12 *", ""),
]


def crontab(mark: str) -> list[tuple[str, str]]:
    """The jobs after this mark at the start of a line: schedule, and what follows the script's path and --quiet."""
    jobs = re.findall(rf"(?m)^{mark}((?:[\d*,-]+ ){{5}})(.+)$", CRONTAB)
    assert all(command.startswith(f"{SCRIPT_LINE} --quiet") for _, command in jobs)
    return [(schedule.strip(), command.removeprefix(f"{SCRIPT_LINE} --quiet")) for schedule, command in jobs]


def test_crontab_has_these_jobs_and_no_other() -> None:
    assert crontab("") == ACTIVE
    assert crontab("#") == COMMENTED
    rest = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
    assert len(rest) == len(ACTIVE), "an active line that is no job"
    assert "%" not in "".join(rest), "cron turns % into a new line"
    assert CRONTAB.endswith("\n"), "cron ignores a last line without its end"


@pytest.mark.parametrize(("schedule", "options"), ACTIVE, ids=[schedule for schedule, _ in ACTIVE])
def test_crontab_job_is_understood_by_the_script(schedule: str, options: str) -> None:
    parsed = tempo_ess.parse_options(["--quiet", *shlex.split(options)])
    assert parsed.quiet
    assert (parsed.today, parsed.tomorrow, parsed.period) == (("BLEU", "BLEU", "HC") if options else (None,) * 3)
    assert f"   {schedule} {SCRIPT_LINE} --quiet{options}\n" in README


def test_summer_job_ends_the_winter_profile(house: House) -> None:
    assert house.gx
    house.gx.values |= {gx_simulator.SOC: 100, gx_simulator.MIN_SOC: 25.0, gx_simulator.STATE: 11}
    result = house.run("--quiet", *shlex.split(SUMMER), at="2027-04-01T22:02")
    assert (result.code, result.text) == (0, "")
    charge, floor, state = house.gx.profile()
    assert (charge, floor, tempo_ess.ess_mode(state)) == (80, 30, "on")


# ---- Outputs -------------------------------------------------------------------------------------

# A command of the README with its output and exit code, then what mosquitto_sub shows of it.
COMMAND = r"\$ \.venv/bin/python tempo_ess\.py (.*)\n((?:.*\n)*?)\$ echo \$\?\n(\d)\n```\n"
MESSAGES = r"(?:\n(?:[^`\n].*\n\n)?```text\n((?:.*\n)*?)```\n)?"
OUTPUTS = re.findall(COMMAND + MESSAGES, re.sub(r"(?m)^   ", "", README))


def test_readme_shows_these_outputs() -> None:
    assert [(arguments, code, bool(messages)) for arguments, _, code, messages in OUTPUTS] == [
        ("--check", "0", False),
        ("--dry-run", "0", False),
        ("--today bleu --tomorrow rouge --period HP", "5", True),
        ("--today bleu --tomorrow rouge --period HC --no-confirm", "0", True),
    ]
    assert README.count("python tempo_ess.py") == len(OUTPUTS) + 1, "a command without its output"


@pytest.mark.parametrize(("arguments", "output", "code", "messages"), OUTPUTS, ids=[one[0] for one in OUTPUTS])
def test_output_in_the_readme_is_what_the_script_prints(
    arguments: str, output: str, code: str, messages: str, request: pytest.FixtureRequest
) -> None:
    on_test_broker = "--today" in arguments
    place: House = request.getfixturevalue("test_broker" if on_test_broker else "house")
    place.names |= {"gxsn": "123456789abc", "prowlkey": ""} if on_test_broker else {}
    place.secret(use_api=True)
    place.meter("BLEU", "ROUGE", "HP")
    place.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    moment = "2026-11-22T22:10" if "HC" in arguments else "2026-11-22T20:30"
    result = place.run(*arguments.split(), at=moment, scale=0.3 if on_test_broker else 1, stderr=subprocess.STDOUT)
    printed = result.out.replace(f"127.0.0.1:{place.broker.port}", "192.0.2.2:1883")
    assert printed.replace(str(place.folder), "/opt/tempo-ess") == output
    assert str(result.code) == code
    if messages:
        seen = [f"{topic} {payload}" for topic, payload, _ in place.watch().seen() if topic.startswith("W/")]
        assert seen == messages.splitlines()
