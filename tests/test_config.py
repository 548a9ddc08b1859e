"""secret.py: what it may hold, and what is refused, and how."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import KEY, House

import tempo_ess

# The existing tempo-ess file of FACTS.md, with fewer comments.
EXISTING = f"""\
ecodevice = "192.0.2.1"
use_eco = True
gx = "192.0.2.2"
gxsn = "123456789abc"
# Charge de la batterie, puis MinSoc, en %
chgbleu = 80
chgblanc = 90
chgrouge = 98
minbleu = 30
minblanc = 30
minrouge = 25
prowlkey = "{KEY}"
"""
REQUIRED: dict[str, Any] = {"ecodevice": "192.0.2.1", "gx": "192.0.2.2", "gxsn": "123456789abc"}
HIDDEN = "hunter2secret"
SECRETS = ["prowlkey", "gxpassword", "ecopassword"]


@pytest.fixture(scope="module")
def closed_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all runs that contact nobody: none can disturb it for the next."""
    built = House(tmp_path_factory.mktemp("closed"))
    built.names["prowlkey"] = ""  # else what is wrong would be pushed
    built.watch()
    yield built
    built.close()


def refusal(house: House, *arguments: str, **options: Any) -> str:
    """What a run says that must end with exit 2 and contact nobody."""
    result = house.run(*arguments, **options)
    assert result.code == 2, result.text
    assert result.out == ""
    assert "Traceback" not in result.err
    assert house.monitor
    assert not [one for one in house.monitor.seen() if one.topic[:2] in ("R/", "W/")]
    assert "tempo_ess" not in "".join(house.broker.lines)
    assert house.eco.requests == []
    assert house.internet.connects == []
    return result.err


def lines(names: dict[str, Any]) -> str:
    """The text of a secret.py that holds these names."""
    return "".join(f"{name} = {value!r}\n" for name, value in names.items())


def problems(folder: Path, **changes: Any) -> list[str]:
    """Every problem of a secret.py that is right but for these changes; ... leaves a name out."""
    path = folder / "secret.py"
    path.write_text(
        lines({name: value for name, value in (REQUIRED | changes).items() if value is not ...})
    )
    return list(tempo_ess.read_config(path)[1].values())


# ---- What is accepted ----------------------------------------------------------------------------


def test_existing_file_is_understood_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "secret.py"
    path.write_text(EXISTING)
    config = tempo_ess.Config(**REQUIRED, chgrouge=98, prowlkey=KEY)
    assert tempo_ess.read_config(path) == (config, {}, [])


def test_misspelt_prowkey_is_a_warning_and_no_push(house: House) -> None:
    house.secret(prowlkey=None, prowkey=KEY)
    house.meter("BLEU", "ROUGE", "HP")
    result = house.run("--quiet")
    assert (result.code, result.out) == (0, "")
    assert "prowkey inconnu : vouliez-vous dire prowlkey ?" in result.err
    assert KEY not in result.text
    assert house.internet.connects == []


def test_spaces_around_a_text_are_ignored(tmp_path: Path) -> None:
    spaced = {name: f" {value}\n" for name, value in REQUIRED.items()}
    assert problems(tmp_path, **spaced, prowlkey=f" {KEY} ") == []
    config = tempo_ess.read_config(tmp_path / "secret.py")[0]
    assert (config.ecodevice, config.gx, config.gxsn, config.prowlkey) == (*REQUIRED.values(), KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_eco": False, "ecodevice": ...},
        {"use_api": False},
        {"ecodevice": "eco.lan:8080", "gx": "venus.local"},
        {"gx": "fe80::1", "gxport": 65535},
        {"gxport": 1, "ecoinput": 2, "relais": 1},
        {"relais": 2, "relais_couleurs": ["ROUGE"], "relais_debut": "00:00", "relais_fin": "23:59"},
        {"ecouser": "moi", "ecopassword": 'à "b" c'},
        {"gxcert": "nowhere.crt", "gxtls": False, "gxpassword": "l'eau"},
        {"gxuser": "token/tempo/tempo-ess", "relais_couleurs": []},
        {"relais_couleurs": [" ROUGE "]},
        {"prowlkey": "", "gxpassword": None, "relais": None, "relais_debut": "", "relais_fin": " "},
    ],
    ids=str,
)
def test_accepted(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert problems(tmp_path, **changes) == []


@pytest.mark.parametrize("couleur", ["bleu", "blanc", "rouge"])
@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (10, 10, []),
        (100, 100, []),
        (9, 90, ["min"]),
        (30, 101, ["chg"]),
        (31, 30, ["min"]),
        (9, 101, ["chg", "min"]),
    ],
)
def test_range_of_minsoc_and_charge(
    tmp_path: Path, couleur: str, low: int, high: int, shown: list[str]
) -> None:
    names = {"min": f"min{couleur} = {low}", "chg": f"chg{couleur} = {high}"}
    found = problems(tmp_path, **{f"min{couleur}": low, f"chg{couleur}": high})
    assert [one.partition(" :")[0] for one in found] == [names[name] for name in shown]


# ---- What is refused -----------------------------------------------------------------------------

TEXTS = ["ecodevice", "gx", "gxsn", "ecouser", "gxcert", "gxuser", "relais_debut", "relais_fin"]
BOOLS = ["use_eco", "use_api", "gxtls", "blbleu", "blblanc", "blrouge"]
PERCENTS = ["chgbleu", "chgblanc", "chgrouge", "minbleu", "minblanc", "minrouge"]
WRONG_TYPES: dict[str, list[Any]] = {
    **{name: [12, True, ["x"], b"x"] for name in TEXTS},
    **{name: [1, 0, "True"] for name in BOOLS},
    **{name: ["50", 50.0, True] for name in PERCENTS},
    **{name: ["1", 1.0, True, [1]] for name in ("ecoinput", "relais", "gxport")},
    "relais_couleurs": ["ROUGE", 3, [3]],
}
WRONG_VALUES: dict[str, list[Any]] = {
    "ecouser": ["a\tb", "\ud800"],
    "gxcert": ["a\0b"],
    "ecodevice": ["http://eco", "eco/api", "a b", "a\tb", "192,168,1,50"],
    "gx": ["mqtt://gx", "gx:1883", "a b", "a\tb", "gx/24", "192,168,1,50", "[fe80::1]"],
    "gxsn": ["123456789ab", "123456789abg", "123456789abcd", "12:34:56:78:9a:bc"],
    "gxport": [-1, 0, 65536],
    "ecoinput": [0, 3],
    "relais": [-1, 3],
    "relais_couleurs": [["VERT"], ["BLANC", ""]],
    "relais_debut": ["1:30", "24:00", "06h00", "06:60", "0600", "22:00"],
    "relais_fin": ["22", "24:00", "9:00", "22:00:00", "06:00", "05:59"],
}
WRONG = [
    (name, value)
    for name in (WRONG_TYPES | WRONG_VALUES)
    for value in (*WRONG_TYPES.get(name, []), *WRONG_VALUES.get(name, []))
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_wrong_value_is_shown_with_its_name(tmp_path: Path, name: str, value: object) -> None:
    (found,) = problems(tmp_path, **{name: value})
    assert name in found
    assert repr(value).strip("'") in found
    assert ("avec des points" in found) == (name in ("ecodevice", "gx"))


@pytest.mark.parametrize(
    "names",
    [
        {"minbleu": "x", "chgbleu": 20},
        {"chgbleu": "95", "minbleu": 85},
        {"relais_debut": "6 h", "relais_fin": "05:00"},
        {"relais_fin": "24:00", "relais_debut": "22:30"},
        {"gxcert": 12, "gxtls": True},
    ],
)
def test_a_default_is_not_held_against_a_wrong_value(tmp_path: Path, names: dict[str, Any]) -> None:
    (found,) = problems(tmp_path, **names)
    name, value = next(iter(names.items()))
    assert found.startswith(f"{name} = {value!r} : il faut")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [..., "", " "], ids=["absent", "empty", "blank"])
def test_what_must_be_there(tmp_path: Path, name: str, value: object) -> None:
    (found,) = problems(tmp_path, **{name: value})
    assert f"{name} manque : il faut" in found
    assert ("enlevez le # devant use_eco" in found) == (name == "ecodevice")


def test_at_least_one_source(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, use_eco=False, use_api=False)
    assert "use_eco" in found
    assert "use_api" in found


@pytest.mark.parametrize("arguments", [[], ["--quiet"], ["--dry-run"]], ids=str)
def test_all_problems_at_once_and_nobody_contacted(
    closed_house: House, arguments: list[str]
) -> None:
    wrong = {name: values[0] for name, values in (WRONG_TYPES | WRONG_VALUES).items()}
    closed_house.secret(lines(wrong | {name: [HIDDEN] for name in SECRETS}))
    said = refusal(closed_house, *arguments)
    assert [name for name in tempo_ess.RULES if f"{name} = " not in said] == []
    assert HIDDEN not in said


# ---- Keys and passwords stay hidden --------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "{name} = ['{hidden}']",
        "{name} = b'{hidden}'",
        "{name} = {hidden}",
        "{name} = 12{hidden}",
        "{name} = '{hidden}",
        r"{name} = 'x\d{hidden}'",
        "{name} = int('{hidden}')",
        "raise SystemExit('{hidden}')",
        "{name}s = '{hidden}'",
    ],
)
def test_secret_is_never_shown(closed_house: House, name: str, text: str) -> None:
    closed_house.secret(text.format(name=name, hidden=HIDDEN) + "\n")
    assert HIDDEN not in refusal(closed_house, "--verbose", "--no-notify")


def test_a_login_in_an_address_is_not_shown(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, ecodevice=f"http://admin:{HIDDEN}@192.0.2.5")
    assert found.startswith("ecodevice = (masqué) : il faut")


# ---- Typos, and names that are none of our business ----------------------------------------------


@pytest.mark.parametrize(
    ("typo", "meant"),
    {"prowkey": "prowlkey", "GXSN": "gxsn", "minblan": "minblanc", "use_echo": "use_eco"}.items(),
)
def test_typo_hint(tmp_path: Path, typo: str, meant: str) -> None:
    assert problems(tmp_path, **{typo: HIDDEN}) == []
    (hint,) = tempo_ess.read_config(tmp_path / "secret.py")[2]
    assert f"{typo} inconnu : vouliez-vous dire {meant} ?" in hint
    assert HIDDEN not in hint


def test_other_names_are_ignored(tmp_path: Path) -> None:
    assert problems(tmp_path, nom="maison", total=[1, -2.5, None], salon={"a": 1}) == []
    assert tempo_ess.read_config(tmp_path / "secret.py")[2] == []


# ---- The file itself: data, never executed -------------------------------------------------------


def test_a_text_alone_a_bom_and_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "secret.py"
    text = '"""Mes réglages"""\n' + lines(REQUIRED) + "chgbleu = 70  # été\n'fin'\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    config = tempo_ess.Config(**REQUIRED, chgbleu=70)
    assert tempo_ess.read_config(path) == (config, {}, [])


NOT_DATA = [
    "import os",
    "from pathlib import Path",
    "open({proof!r}, 'w')",
    "chgbleu = len(open({proof!r}, 'w').name)",
    "chgbleu: int = 80",
    "chgbleu += 1",
    "chgbleu = minbleu = 80",
    "chgbleu, minbleu = 80, 30",
    "chgbleu = 40 + 40",
    "chgbleu = vrai",
    "gxcert = f'{{gx}}.crt'",
    "if True: chgbleu = 80",
    "def chgbleu(): pass",
    "class Chgbleu: pass",
    "80",
]


@pytest.mark.parametrize("line", NOT_DATA)
def test_a_line_that_is_no_plain_assignment_is_named_by_its_number_and_not_executed(
    closed_house: House, line: str
) -> None:
    """With all other problems."""
    proof = closed_house.folder / "executed"
    line = line.format(proof=str(proof))
    path = closed_house.secret("\n" + line + "\n" + lines(REQUIRED | {"minrouge": 200}))
    said = refusal(closed_house)
    assert str(path) in said
    assert "ligne 2 : il faut « nom = valeur »" in said
    assert "minrouge = 200 : il faut" in said
    assert line not in said
    assert not proof.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gx = '192.0.2.2\n", 1),
        ("gx = '192.0.2.2'\n\ngxsn == = 'x'\n", 3),
        ("gx = '192.0.2.2'\n  gxsn = 'x'\n", 2),
        ("gx = '192.0.2.2'\nchgbleu = 80 %\n", 2),
        ("gx = “192.0.2.2”\n", 1),
        ("gx = '192.0.2.2'\ngxsn =\N{NO-BREAK SPACE}'x'\n", 2),
        ("use_eco = " + "[" * 500 + "]" * 500, 1),
    ],
)
def test_a_syntax_error_gives_file_and_line_and_not_the_line(
    closed_house: House, text: str, line: int
) -> None:
    path = closed_house.secret(text)
    said = refusal(closed_house)
    assert f"{path}, ligne {line} : mal écrit" in said
    assert f"nano +{line} {path}" in said
    assert len(said.splitlines()) == 1
    assert text.splitlines()[line - 1].strip() not in said


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "latin-1"])
def test_a_file_that_is_no_utf_8_says_so(closed_house: House, codec: str) -> None:
    path = closed_house.secret()
    comment = (
        "# réglages\n" if codec == "latin-1" else "# only ASCII: bytes of UTF-8, but for the NULs\n"
    )
    path.write_bytes((comment + lines(REQUIRED)).encode(codec))
    said = refusal(closed_house)
    assert (
        said == f"erreur : {path} n'est pas un texte en UTF-8 : réenregistrez-le dans ce codage\n"
    )


def test_absent_file_says_to_copy_the_example(closed_house: House) -> None:
    absent = str(closed_house.folder / "nowhere.py")
    assert "secret.py.example" in refusal(closed_house, "--config", absent)


def test_a_secret_py_that_is_no_file_is_not_to_be_copied_over(closed_house: House) -> None:
    said = refusal(closed_house, "--config", str(closed_house.folder))
    assert "n'est pas un fichier" in said
    assert "secret.py.example" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_of_another_user_that_cannot_be_read_says_so(closed_house: House) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)  # unlike a folder of pytest's
        path = Path(shutil.move(closed_house.secret(), open_to_all))
        os.seteuid(65534)
        try:
            with pytest.raises(tempo_ess.Failure, match="appartient à un autre utilisateur") as it:
                tempo_ess.read_config(path)
        finally:
            os.seteuid(0)
    assert it.value.code == 2


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o666, 0o777], ids=oct)
def test_permissions_are_the_owners_business(tmp_path: Path, mode: int) -> None:
    """Nothing is executed; --check warns."""
    assert problems(tmp_path) == []
    (tmp_path / "secret.py").chmod(mode)
    assert tempo_ess.read_config(tmp_path / "secret.py")[0].gx == "192.0.2.2"


# ---- gxcert --------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["home/secret.py", "{folder}/home/secret.py"])
@pytest.mark.parametrize("cert", ["gx.crt", "tls/gx.crt", "{folder}/home/gx.crt"])
def test_gxcert_is_relative_to_secret_py(
    closed_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cert: str, secret: str
) -> None:
    monkeypatch.chdir(tmp_path)
    named = cert.format(folder=tmp_path)
    place = tmp_path / "home" / named
    place.parent.mkdir(parents=True)
    place.write_bytes(closed_house.internet.ca.read_bytes())
    path = Path(secret.format(folder=tmp_path))
    path.write_text(lines(REQUIRED | {"gxtls": True, "gxcert": named}))
    config = tempo_ess.read_config(path)[0]
    assert Path(config.gxcert).resolve() == place.resolve()
    assert config.port() == 8883


def test_an_ipv6_address_is_shown_in_brackets_as_openssl_wants_it() -> None:
    assert tempo_ess.Config(gx="fe80::1", gxtls=True).broker() == "[fe80::1]:8883"


@pytest.mark.parametrize("cert", [None, "", "nowhere.crt", ".", "text.crt"], ids=ascii)
def test_missing_or_unreadable_gxcert_shows_how_to_fetch_it(
    closed_house: House, cert: str | None
) -> None:
    (closed_house.folder / "text.crt").write_text("ceci n'est pas un certificat\n")
    closed_house.secret(gxtls=True, gxcert=cert, gxport=None)
    said = refusal(closed_house)
    assert "gxcert = " in said
    assert "None" not in said
    assert "openssl s_client -connect 127.0.0.1:8883" in said
