"""README, docstring, --help and example files say what the code does today."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gx_simulator as gx
import pytest
from house import ROOT, SCRIPT, House

import tempo_ess
from tempo_ess import BATTERY_LIFE, MIN_SOC, SOC, Couleur, Exit

README = (ROOT / "README.md").read_text("utf-8")
DOCSTRING = tempo_ess.__doc__ or ""
SECRET = (ROOT / "secret.py.example").read_text("utf-8")
CRONTAB = (ROOT / "crontab.example").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FILLED = {"ecodevice": "192.0.2.1", "gx": "192.0.2.2", "gxsn": "123456789abc"}
PYTHON = "$HOME/tempo-ess/.venv/bin/python"
COMMAND = f"{PYTHON} $HOME/tempo-ess/tempo_ess.py"


def table(head: str) -> list[list[str]]:
    """The cells, row by row, of the README's table whose first line starts so."""
    body = README.partition(f"\n| {head} |")[2].split("\n\n")[0].splitlines()[2:]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in body]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


READ = tempo_ess.Secret(FILLED)
CONFIG = tempo_ess.read_config(READ, ROOT)
DEFAULTS = READ.defaults  # every name of secret.py; None is "not set"


# ---- Tables --------------------------------------------------------------------------------------


def test_colour_tables_are_the_default_profiles() -> None:
    rows = []
    for couleur in Couleur:
        target = tempo_ess.profile_settings(CONFIG.profiles[couleur])
        shown = [setting.text(target[setting]) for setting in (SOC, BATTERY_LIFE, MIN_SOC)]
        rows.append([couleur, *shown])
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
    wide = os.environ | {"COLUMNS": "200", "PYTHONUTF8": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-B", str(SCRIPT), "--help"]
    answer = subprocess.check_output(command, env=wide, encoding="utf-8")
    options = re.findall(r"(?m)^  (-.+?)\s{2,}(.+)$", answer)
    assert len(options) > 10
    assert [(option.strip("`"), effect) for option, effect in table("option")] == options


def test_configuration_table_names_every_name_with_its_default() -> None:
    cells = dict.fromkeys(("gx", "gxsn"), "obligatoire")
    cells["ecodevice"] = "obligatoire avec `use_eco`"
    cells["gxport"] = "`1883`"  # 8883 with gxtls, so it has no default of its own
    for name, default in DEFAULTS.items():
        shown = "aucun" if default is None else f"`{default!r}`".replace("'", '"')
        cells.setdefault(name, shown)
    assert {name.strip("`"): default for name, default, _ in table("nom")} == cells


def test_gains_follow_from_their_prices() -> None:
    rows = table("nuit de la journée")
    assert len(rows) == 7
    for night, off_peak, tomorrow, peak, gain in rows:
        cells = [cell.replace(",", ".").replace("−", "-") for cell in (off_peak, peak, gain)]
        bought, sold, told = map(float, cells)
        assert told == round(sold - bought / 0.775, 1), (night, tomorrow)


def test_what_an_owner_reads_to_the_end_is_at_most_160_lines() -> None:
    assert len(README.partition("\n---\n")[0].splitlines()) <= 160


# ---- Installation --------------------------------------------------------------------------------


def test_install_and_update_name_the_packages_of_pyproject() -> None:
    lines = re.findall(r"\.venv/bin/pip install (?:--upgrade )?(.+) &&", README)
    assert [shlex.split(line) for line in lines] == [PROJECT["dependencies"]] * 2


def test_script_header_for_uv_is_pyproject() -> None:
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", SCRIPT.read_text("utf-8"))
    assert block
    header = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    assert header == {name: PROJECT[name] for name in ("requires-python", "dependencies")}


def test_openssl_command_is_the_one_that_the_script_shows() -> None:
    secret = tempo_ess.Secret(FILLED | {"gxtls": True})
    tempo_ess.read_config(secret, ROOT)
    shown = re.search(r"openssl .*", "\n".join(secret.problems.values()))
    assert shown
    assert f"```sh\n{shown[0]}\n```" in README


def test_the_files_and_commands_that_the_readme_names_exist() -> None:
    named = {*re.findall(r"\bsh (tests/\w+\.sh)", README), *re.findall(r"\]\(([\w.]+)\)", README)}
    assert named == {"tests/demo.sh", "tests/run.sh", "crontab.example", "LICENSE"}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_links_within_the_readme_lead_somewhere() -> None:
    titles = re.findall(r"(?m)^#+ (.+)$", README)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {*re.findall(r"\]\(#([^)]+)\)", README)} <= anchors


# ---- secret.py.example ---------------------------------------------------------------------------


def test_untouched_secret_example_is_told_what_to_fill(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(SECRET, "utf-8")
    read = tempo_ess.examine(secret)[1]
    problems = list(read.problems.values())
    missing = [problem.split(" : ")[0] for problem in problems]
    assert missing == ["ecodevice manque", "gx manque", "gxsn manque"]
    assert "use_eco = False" in problems[0]
    assert read.hints() == []


def test_filled_secret_example_is_the_default_configuration(tmp_path: Path) -> None:
    text = SECRET
    for name, value in FILLED.items():
        text = text.replace(f'\n{name} = ""', f'\n{name} = "{value}"')
    secret = tmp_path / "secret.py"
    secret.write_text(text, "utf-8")
    config, read = tempo_ess.examine(secret)
    assert (config, read.problems, read.hints()) == (CONFIG, {}, [])


def test_secret_example_shows_every_name_once_with_its_default() -> None:
    shown = re.findall(r"(?m)^#?(\w+ = .+?)(?:  #.*)?$", SECRET)
    values: dict[str, Any] = {}
    exec("\n".join(shown), {}, values)
    assert len(values) == len(shown)
    defaults = DEFAULTS | {"gxport": 1883, "relais": 1}  # examples
    empty_is_none = {name: value or None for name, value in values.items()}
    assert empty_is_none == {name: value or None for name, value in defaults.items()}


# ---- crontab.example -----------------------------------------------------------------------------

GUARDED = f"test -x {PYTHON} && {COMMAND} --quiet"
SUMMER = " --today bleu --tomorrow bleu --period HC"
PING = "curl -fsS -m 10 --retry 3 -o /dev/null https://hc-ping.com/VOTRE-UUID/$?"
WINTER = "* 1-3,9-12 *"
ACTIVE = [
    (f"5 20 {WINTER}", GUARDED),
    (f"2 22 {WINTER}", GUARDED),
    ("2 22 1 4 *", GUARDED + SUMMER),
]
COMMENTED = [
    (f"47 22 {WINTER}", GUARDED),
    ("5 20 * * *", GUARDED),
    ("2 22 * * *", GUARDED),
    (f"5 6 {WINTER}", GUARDED),
    (f"2 22 {WINTER}", f"{COMMAND} 2>&1 | logger -t tempo_ess"),
    (f"2 22 {WINTER}", f"{COMMAND} --quiet; {PING}"),
]


def jobs(text: str, mark: str) -> list[tuple[str, str]]:
    """The jobs after this mark at the start of a line: schedule and command."""
    found = re.findall(rf"(?m)^{mark}((?:[\d*,-]+ ){{5}})(.+)$", text)
    return [(schedule.strip(), command) for schedule, command in found]


def test_crontab_has_these_jobs_and_no_other() -> None:
    assert jobs(CRONTAB, "") == ACTIVE
    assert jobs(CRONTAB, "#") == COMMENTED
    rest = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
    assert len(rest) == len(ACTIVE), "an active line that is no job"
    assert "%" not in "".join(command for _, command in ACTIVE + COMMENTED), "a new line to cron"
    assert CRONTAB.endswith("\n"), "cron ignores a last line without its end"


def test_crontab_of_the_readme_is_that_of_the_example() -> None:
    block = re.search(r"```crontab\n((?:.*\n)*?)```", README)
    assert block
    assert jobs(block[1], "") == ACTIVE
    assert len(block[1].splitlines()) == len(ACTIVE)


def test_summer_job_ends_the_winter_profile(house: House) -> None:
    house.gx.values |= {gx.SOC: 100, gx.MIN_SOC: 25.0, gx.STATE: 11}
    result = house.run("--quiet", *shlex.split(SUMMER), at="2027-04-01T22:02")
    assert (result.code, result.text) == (0, "")
    charge, min_soc, state = house.gx.profile()
    assert (charge, min_soc, BATTERY_LIFE.text(state)) == (80, 30, "on")


# ---- Outputs -------------------------------------------------------------------------------------

# A command of the README with its output and exit code (0 if not shown), then its messages.
RECORD = (
    r"\$ \.venv/bin/python tempo_ess\.py (.*)\n((?:[^$`\n].*\n)*)(?:\$ echo \$\?\n(\d)\n)?```\n"
)
MESSAGES = r"(?:\n(?:[^`\n].*\n\n)?```text\n((?:.*\n)*?)```\n)?"
OUTPUTS = re.findall(RECORD + MESSAGES, README)


def test_readme_shows_these_outputs() -> None:
    on_test_broker = "--today bleu --tomorrow rouge --period HC --no-confirm"
    shown = [(arguments, code) for arguments, _, code, _ in OUTPUTS]
    assert shown == [("--check", "0"), ("--dry-run", ""), (on_test_broker, "")]


@pytest.mark.parametrize(
    ("arguments", "output", "code", "messages"), OUTPUTS, ids=[one[0] for one in OUTPUTS]
)
def test_output_in_the_readme_is_what_the_script_prints(
    arguments: str, output: str, code: str, messages: str, request: pytest.FixtureRequest
) -> None:
    on_test_broker = "--no-confirm" in arguments
    place: House = request.getfixturevalue("test_broker" if on_test_broker else "house")
    if on_test_broker:
        place.names |= {"gxsn": "123456789abc", "prowlkey": ""}
    place.secret(use_api=True)
    place.meter("BLEU", "ROUGE", "HP")
    place.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    time = "22:10" if on_test_broker else "20:30"
    env = {"TZ": "Europe/Paris"}
    result = place.run(*arguments.split(), at=f"2026-11-22T{time}", env=env)
    printed = result.text.replace(f"127.0.0.1:{place.broker.port}", "192.0.2.2:1883")
    assert printed.replace(str(place.folder), "/home/vous/tempo-ess") == output
    assert result.code == int(code or 0)
    written = [f"W/{place.names['gxsn']}/{path} {payload}" for path, payload in place.writes()]
    assert written == messages.splitlines()
