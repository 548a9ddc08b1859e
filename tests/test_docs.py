"""README, docstring, --help and example files say what the code does today."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from house import ROOT, SCRIPT, House

import tempo_ess
from tempo_ess import BATTERY_LIFE, MIN_SOC, SOC, Couleur, Exit

README = (ROOT / "README.md").read_text("utf-8")
DOCSTRING = tempo_ess.__doc__ or ""
SECRET = (ROOT / "secret.py.example").read_text("utf-8")
CRONTAB = (ROOT / "crontab.example").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FILLED: dict[str, Any] = {"ecodevice": "192.0.2.1", "gx": "192.0.2.2", "gxsn": "123456789abc"}


def table(head: str) -> list[list[str]]:
    """The cells, row by row, of the README's table whose first line starts so."""
    body = README.partition(f"\n| {head} |")[2].split("\n\n")[0].splitlines()[2:]
    assert body, head
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in body]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


CONFIG = tempo_ess.Config(**FILLED)
DEFAULTS = tempo_ess.Config()._asdict()  # every name of secret.py


# ---- Tables --------------------------------------------------------------------------------------


def test_colour_tables_are_the_default_profiles() -> None:
    rows = []
    for couleur in Couleur:
        target = CONFIG.profile(couleur)
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


def test_option_table_is_the_help(house: House) -> None:
    wide = house.run("--help", env={"COLUMNS": "200"}).out
    options = re.findall(r"(?m)^  (-.+?)\s{2,}(.+)$", wide)
    assert [(option.strip("`"), effect) for option, effect in table("option")] == options


def test_configuration_table_names_every_name_with_its_default() -> None:
    cells = dict.fromkeys(("gx", "gxsn"), "obligatoire")
    cells["ecodevice"] = "obligatoire avec `use_eco`"
    cells["gxport"] = "`1883`"  # 8883 with gxtls, so it has no default of its own
    for name, default in DEFAULTS.items():
        shown = "aucun" if default in ("", None) else f"`{default!r}`".replace("'", '"')
        cells.setdefault(name, shown)
    assert {name.strip("`"): default for name, default, _ in table("nom")} == cells


def test_what_an_owner_reads_to_the_end_is_at_most_160_lines() -> None:
    assert len(README.partition("\n---\n")[0].splitlines()) <= 160


def test_gains_follow_from_their_prices() -> None:
    for row in table("nuit de la journée"):
        cells = [row[at].replace(",", ".").replace("−", "-") for at in (1, 3, 4)]
        off_peak, peak, gain = map(float, cells)
        assert gain == round(peak - off_peak / 0.775, 1), row


# ---- Installation --------------------------------------------------------------------------------


def test_readme_and_uv_header_name_the_packages_of_pyproject() -> None:
    lines = re.findall(r"\.venv/bin/pip install (?:--upgrade )?(.+) &&", README)
    assert [shlex.split(line) for line in lines] == [PROJECT["dependencies"]] * 2
    header = SCRIPT.read_text("utf-8").partition("# /// script\n")[2].partition("# ///\n")[0]
    wanted = {name: PROJECT[name] for name in ("requires-python", "dependencies")}
    assert tomllib.loads(header.replace("# ", "")) == wanted


def test_openssl_command_is_the_one_that_the_script_shows() -> None:
    _, problems = tempo_ess.read_config(FILLED | {"gxtls": True}, ROOT)
    shown = re.search(r"openssl .*", problems["gxcert"])
    assert shown
    assert f"```sh\n{shown[0]}\n```" in README


def test_what_the_readme_points_to_exists() -> None:
    named = {*re.findall(r"\bsh (tests/\w+\.sh)", README), *re.findall(r"\]\(([\w.]+)\)", README)}
    assert named == {"tests/demo.sh", "tests/run.sh", "crontab.example", "LICENSE"}
    assert [name for name in named if not (ROOT / name).is_file()] == []
    titles = re.findall(r"(?m)^#+ (.+)$", README)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= set(anchors)


# ---- secret.py.example ---------------------------------------------------------------------------


def test_untouched_secret_example_is_told_what_to_fill(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(SECRET, "utf-8")
    _, problems, hints = tempo_ess.examine(secret)
    missing = [problem.split(" : ")[0] for problem in problems.values()]
    assert missing == ["ecodevice = ''", "gx = ''", "gxsn = ''"]
    assert "use_eco = False" in problems["ecodevice"]
    assert hints == []


def test_filled_secret_example_is_the_default_configuration(tmp_path: Path) -> None:
    text = SECRET
    for name, value in FILLED.items():
        text = text.replace(f'\n{name} = ""', f'\n{name} = "{value}"')
    secret = tmp_path / "secret.py"
    secret.write_text(text, "utf-8")
    assert tempo_ess.examine(secret) == (CONFIG, {}, [])


def test_secret_example_shows_every_name_once_with_its_default() -> None:
    shown = re.findall(r"(?m)^#?(\w+ = .+?)(?:  #.*)?$", SECRET)
    values: dict[str, Any] = {}
    exec("\n".join(shown), {}, values)
    assert len(values) == len(shown)
    defaults = DEFAULTS | {"gxport": 1883, "relais": 1}  # examples
    assert values == defaults


# ---- crontab.example -----------------------------------------------------------------------------

PYTHON = "$HOME/tempo-ess/.venv/bin/python"
COMMAND = f"{PYTHON} $HOME/tempo-ess/tempo_ess.py"
GUARDED = f"test -x {PYTHON} && {COMMAND} --quiet"
PING = "curl -fsS -m 10 --retry 3 -o /dev/null https://hc-ping.com/VOTRE-UUID/$?"
ACTIVE = f"""\
5 20 * 1-3,9-12 * {GUARDED}
2 22 * 1-3,9-12 * {GUARDED}
2 22 1 4 * {GUARDED} --today bleu --tomorrow bleu --period HC
"""
COMMENTED = f"""\
#47 22 * 1-3,9-12 * {GUARDED}
#5 20 * * * {GUARDED}
#2 22 * * * {GUARDED}
#5 6 * 1-3,9-12 * {GUARDED}
#2 22 * 1-3,9-12 * {COMMAND} 2>&1 | logger -t tempo_ess
#2 22 * 1-3,9-12 * {COMMAND} --quiet; {PING}
"""


def test_crontab_has_these_jobs_and_no_other_and_the_readme_the_active_ones() -> None:
    # With their ends: cron ignores a last line without it.
    assert "".join(re.findall(r"(?m)^[^#\n].*\n", CRONTAB)) == ACTIVE
    assert "".join(re.findall(r"(?m)^#\S.*\n", CRONTAB)) == COMMENTED
    assert f"```crontab\n{ACTIVE}```" in README


# ---- Outputs -------------------------------------------------------------------------------------

ON_TEST_BROKER = "--today bleu --tomorrow rouge --period HC --no-confirm"
OUTPUTS = [
    ("house", "20:30", "--check", "$ echo $?\n0\n```"),
    ("house", "20:30", "--dry-run", "```"),
    ("test_broker", "22:10", ON_TEST_BROKER, "```"),
]


@pytest.mark.parametrize(("place", "time", "arguments", "end"), OUTPUTS)
def test_output_in_the_readme_is_what_the_script_prints(
    place: str, time: str, arguments: str, end: str, request: pytest.FixtureRequest
) -> None:
    house: House = request.getfixturevalue(place)
    if place == "test_broker":
        house.names |= {"gxsn": FILLED["gxsn"], "prowlkey": ""}
    house.secret(use_api=True)
    house.meter("BLEU", "ROUGE", "HP")
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    result = house.run(*arguments.split(), at=f"2026-11-22T{time}")
    assert result.code == 0
    printed = result.text.replace(f"127.0.0.1:{house.broker.port}", "192.0.2.2:1883")
    printed = printed.replace(str(house.folder), "/home/vous/tempo-ess")
    assert f"```console\n$ .venv/bin/python tempo_ess.py {arguments}\n{printed}{end}" in README
    assert README.count("```console") == len(OUTPUTS)
    written = [f"W/{FILLED['gxsn']}/{path} {payload}\n" for path, payload in house.writes()]
    assert (f"```text\n{''.join(written)}```" in README) == (place == "test_broker")
