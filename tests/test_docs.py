"""README, docstring, --help and example files say what the code does today."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

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
DEFAULTS = dataclasses.asdict(tempo_ess.Config())  # every name of secret.py
DEFAULTS["relais_couleurs"] = [*DEFAULTS["relais_couleurs"]]


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
    assert [(code, meaning) for code, meaning, _ in rows if code != "127"] == told
    assert all(advice for _, _, advice in rows)


def test_gains_follow_from_their_prices() -> None:
    for row in table("nuit de la journée"):
        cells = [row[at].replace(",", ".").replace("−", "-") for at in (1, 3, 4)]
        off_peak, peak, gain = map(float, cells)
        assert gain == round(peak - off_peak / 0.775, 1), row


# ---- Installation --------------------------------------------------------------------------------


def test_readme_message_and_uv_header_name_the_packages_of_pyproject() -> None:
    lines = re.findall(r"\.venv/bin/pip install (?:--upgrade )?(.+?)(?: &&|\n)", README)
    assert [shlex.split(line) for line in lines] == [PROJECT["dependencies"]] * 3
    script = SCRIPT.read_text("utf-8")
    header = script.partition("# /// script\n")[2].partition("# ///\n")[0]
    wanted = {name: PROJECT[name] for name in ("requires-python", "dependencies")}
    assert tomllib.loads(header.replace("# ", "")) == wanted
    assert f"/bin/pip install {lines[0]}" in script


def test_commands_are_blocks_to_copy_without_a_prompt() -> None:
    blocks = re.findall(r"(?s)```sh\n(.*?)```", README)
    assert len(blocks) > 10
    assert [block for block in blocks if block.startswith("$ ")] == []
    for command in ("--check", "--dry-run", ""):
        line = f'cd "$HOME/tempo-ess" && .venv/bin/python tempo_ess.py {command}'.strip()
        assert f"{line}\n" in blocks


def test_openssl_command_is_the_one_that_the_script_shows() -> None:
    shown = tempo_ess.Config(**FILLED, gxtls=True).certificate_command()
    assert f"\n{shown}\n" in README


def test_what_the_readme_points_to_exists() -> None:
    commands = {*re.findall(r"\bsh (tests/\w+\.sh)", README)}
    named = commands | {*re.findall(r"\]\(([\w./]+)\)", README)}
    assert {"tests/demo.sh", "tests/run.sh", "crontab.example", "LICENSE"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []
    titles = re.findall(r"(?m)^#+ (.+)$", README)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= set(anchors)


def test_menus_are_named_as_in_the_scripts_advice() -> None:
    """As a French GX shows them, spelling included, with the English in brackets."""
    menus = [tempo_ess.ESS_MENU.partition(" > ")[2], "Niveaux de charge plannifiés", "Programme 1"]
    menus += ["Scheduled charge levels", "Fuseau horaire", "Intégrations > Accès MQTT"]
    assert [menu for menu in menus if menu not in README] == []


# ---- secret.py.example ---------------------------------------------------------------------------


def test_untouched_secret_example_is_told_what_to_fill(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text(SECRET, "utf-8")
    _, problems, hints = tempo_ess.read_config(secret)
    missing = [problem.split(" : ")[0] for problem in problems.values()]
    assert missing == ["gx manque", "gxsn manque", "ecodevice manque"]
    assert "enlevez le # devant use_eco et mettez False" in problems["ecodevice"]
    assert hints == []


def test_nano_opens_secret_py_at_the_first_value() -> None:
    number = SECRET.splitlines().index('ecodevice = ""') + 1
    assert README.count(f"nano +{number} ") == README.count("nano +") == 2


def test_examples_are_at_most_80_columns_wide() -> None:
    lines = [*SECRET.splitlines(), *(line for line in CRONTAB.splitlines() if line[:2] == "# ")]
    assert [line for line in lines if len(line) > 80] == []


def test_filled_secret_example_is_the_default_configuration(tmp_path: Path) -> None:
    text = SECRET
    for name, value in FILLED.items():
        text = text.replace(f'\n{name} = ""', f'\n{name} = "{value}"')
    secret = tmp_path / "secret.py"
    secret.write_text(text, "utf-8")
    assert tempo_ess.read_config(secret) == (CONFIG, {}, [])


def test_secret_example_shows_every_name_once_with_its_default() -> None:
    shown = re.findall(r"(?m)^#?(\w+ = .+)$", SECRET)
    values: dict[str, Any] = {}
    exec("\n".join(shown), {}, values)
    assert len(values) == len(shown)
    defaults = DEFAULTS | {"gxport": 1883, "relais": 1}  # examples
    assert values == defaults


# ---- crontab.example -----------------------------------------------------------------------------


def test_crontab_lines_fail_aloud_and_the_readme_has_the_advised_ones() -> None:
    """Relative to $HOME, where cron starts, and without a test that would make them silent."""
    active = re.findall(r"(?m)^[^#\n].*\n", CRONTAB)  # with their ends: cron wants the last one's
    times = ["5 20 * 1-3,9-12 *", "2 22 * 1-3,9-12 *", "47 22 * 1-3,9-12 *", "2 22 1 4 *"]
    assert [" ".join(line.split()[:5]) for line in active] == times
    commented = re.findall(r"(?m)^#(\d.*\n)", CRONTAB)
    for line in (*active, *commented):
        assert "cd tempo-ess && .venv/bin/python tempo_ess.py" in line
        assert "test -x" not in line
    assert "".join(active) in README


# ---- Outputs -------------------------------------------------------------------------------------


def test_the_readme_has_every_label_of_check(house: House) -> None:
    house.secret(use_api=True)
    house.meter("BLEU", "ROUGE", "HP")
    house.internet.knows(d2026_11_22="BLEU", d2026_11_23="ROUGE")
    result = house.run("--check", at="2026-11-22T20:30")
    assert result.code == 0
    labels = [line[:31] for line in result.out.splitlines()]
    block = README.partition("<summary>Toutes ses lignes")[2].partition("```text\n")[2]
    assert [line[:31] for line in block.partition("```")[0].splitlines()] == labels


def test_the_run_on_a_test_broker_in_the_readme_is_what_the_script_prints(
    test_broker: House,
) -> None:
    arguments = "--no-notify --no-confirm --today bleu --tomorrow rouge --period HC"
    test_broker.names |= {"gxsn": FILLED["gxsn"]}
    result = test_broker.run(*arguments.split(), at="2026-11-22T22:10")
    assert result.code == 0
    assert f"tempo_ess.py --config essai.py {arguments}\n" in README
    assert f"```text\n{result.text}```" in README
    written = [f"W/{FILLED['gxsn']}/{path} {payload}\n" for path, payload in test_broker.writes()]
    assert f"```text\n{''.join(written)}```" in README
