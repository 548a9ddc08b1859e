"""--check: its table, against the house with each single thing wrong in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gx_simulator as gx
import pytest
from house import KEY, Broker, House, http

EVENING = "2026-11-23T20:10"
MORNING = "2026-11-23T09:00"
NIGHT = "2026-11-24T01:00"
IN_PARIS = {"TZ": "Europe/Paris"}  # the machine's own clock, which its row is about


@pytest.fixture
def well(house: House) -> House:
    """All is well: all sources know, the relay is manual, secret.py is private."""
    house.meter("BLEU", "ROUGE", "HP")
    house.internet.knows(d2026_11_23="BLEU", d2026_11_24="ROUGE")
    house.names |= {"use_api": True, "relais": 2}
    house.secret()
    return house


def rows(text: str) -> dict[str, tuple[str, str]]:
    """The table: subject -> (level, text)."""
    table = {}
    for line in text.splitlines():
        level, subject, said = line[:9].strip(), line[11:31].strip(), line[33:]
        assert level in ("OK", "attention", "erreur"), line
        table[subject] = level, said
    return table


def test_all_is_well(well: House) -> None:
    result = well.run("--check", at=EVENING, env=IN_PARIS)
    assert result.code == 0
    assert result.err == ""
    table = rows(result.out)
    assert next(iter(table)) == "heure de la machine"
    assert {level for level, _ in table.values()} == {"OK"}
    shown = " ".join(said for _, said in table.values())
    values = ("BLEU", "ROUGE", "HP", "80 %", "30 %", "22:00", "8 h", "Europe/Paris", gx.SN)
    for value in (*values, "clé acceptée"):
        assert value in shown
    for number in (2, 3, 4, 5):
        assert table[f"Schedule {number} Day"] == ("OK", "inactif")
    assert well.writes() == []
    [verification] = well.internet.asked("api.prowlapp.com")
    assert verification.target.startswith("/publicapi/verify?"), "no notification"


# ---- A single thing wrong ------------------------------------------------------------------------

Spoil = Callable[[House], object]


def holds(path: str, value: Any) -> Spoil:
    return lambda house: house.gx.values.update({path: value})


def lacks(path: str) -> Spoil:
    return lambda house: house.gx.mute.add(path)


def secret(**changes: Any) -> Spoil:
    return lambda house: house.secret(**changes)


def eco_down(house: House) -> None:
    house.eco.close()


def base_contract(house: House) -> None:
    house.answers["T1_PTEC"] = "TH.."


def broker_down(house: House) -> None:
    house.broker.stop()


def silent_gx(house: House) -> None:
    house.gx.up = False


def says(peer: str, status: int, body: str = "<html>") -> Spoil:
    return lambda house: setattr(house.internet, peer, lambda request: http(status, body))


def prowl_says(status: int, words: str) -> Spoil:
    return says("prowl", status, f"<prowl><error code='{status}'>{words}</error></prowl>")


def all_of(*spoils: Spoil) -> Spoil:
    return lambda house: [spoil(house) for spoil in spoils]


rte_down, edf_down, api_down = says("rte", 503), says("edf", 502), says("api", 500)
all_down = all_of(eco_down, rte_down, edf_down, api_down)
eco_alone_down = all_of(eco_down, secret(use_api=False))
DAY_2, DAY_3, _, DAY_5 = gx.OTHER_DAYS


class Wrong(NamedTuple):
    """What is wrong, the line that says it, its level, words in it, and the exit code."""

    spoil: Spoil
    subject: str
    level: str
    words: tuple[str, ...]
    code: int = 0


def attention(spoil: Spoil, subject: str, *words: str) -> Wrong:
    return Wrong(spoil, subject, "attention", words)


def error(code: int, spoil: Spoil, subject: str, *words: str) -> Wrong:
    return Wrong(spoil, subject, "erreur", words, code)


WRONG = [
    attention(secret(mode=0o644), "secret.py", "chmod 600"),
    attention(eco_down, "EcoDevice", "connexion refusée"),
    error(3, eco_alone_down, "EcoDevice", "connexion refusée"),
    error(3, base_contract, "EcoDevice", "Base"),
    attention(rte_down, "RTE", "503"),
    attention(edf_down, "EDF", "502"),
    attention(api_down, "api-couleur-tempo", "500"),
    error(3, all_down, "couleur du jour"),
    error(4, broker_down, "GX", "connexion refusée"),
    error(5, secret(gxsn="ffffffffffff"), "gxsn", gx.SN),
    error(2, secret(gxsn=None), "gxsn", gx.SN),
    attention(holds(gx.DAY, -7), "Schedule 1 Day", "inactif", "Settings"),
    attention(holds(gx.START, 75600), "Schedule 1 Start", "21 h", "22:00"),
    attention(holds(gx.DURATION, 18000), "Schedule 1 Duration", "5 h", "8 h"),
    attention(holds(gx.ALLOW_DISCHARGE, 1), "Schedule 1 Discharge", "PV & Batt"),
    attention(holds(DAY_2, 7), "Schedule 2 Day", "tous les jours", "Settings"),
    attention(holds(DAY_5, 3), "Schedule 5 Day", "Settings"),
    attention(lacks(DAY_3), "Schedule 3 Day", "non lisible"),
    attention(holds(gx.DYNAMIC_ESS, 1), "Dynamic ESS", "Settings"),
    attention(lacks(gx.DYNAMIC_ESS), "Dynamic ESS", "non lisible"),
    attention(holds(gx.STATE, 9), "BatteryLife", "Settings"),
    attention(holds(gx.HUB4_MODE, 3), "Mode ESS", "externe", "Settings"),
    attention(holds(gx.TIME_ZONE, "/UTC"), "fuseau du GX", "UTC", "Europe/Paris"),
    attention(holds(gx.RELAY_2_FUNCTION, 0), "fonction relais", "Manual", "Settings"),
    error(5, lacks(gx.RELAY_2), "Relais 2", "non lisible"),
    error(5, silent_gx, "réglages du GX"),
    error(5, lacks(gx.MIN_SOC), "MinSoc", "non lisible"),
    attention(prowl_says(401, "Invalid API key"), "Prowl", "401", "vérifiez prowlkey"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: f"{one.subject} {' '.join(one.words)}")
def test_a_single_thing_wrong_is_said_where_it_is(well: House, wrong: Wrong) -> None:
    wrong.spoil(well)
    result = well.run("--check", at=EVENING, scale=0.3)
    table = rows(result.out)
    found = [row for name, row in table.items() if name.startswith(wrong.subject)]
    assert found, result.text
    level, said = found[0]
    assert level == wrong.level
    for word in wrong.words:
        assert word in said
    assert result.code == wrong.code
    assert KEY not in result.text
    if wrong.subject == "gxsn":
        assert table["MinSoc"] == ("OK", "30 %"), "read under the right serial"
    elif "gxsn" in table:
        assert table["gxsn"][0] == "OK", "a right serial is never called wrong"
    if well.broker.process.poll() is None:
        assert well.writes() == []


def test_the_exit_code_is_that_of_the_first_error(well: House) -> None:
    base_contract(well)
    broker_down(well)
    well.secret(chgbleu="80")
    result = well.run("--check", at=EVENING, scale=0.1)
    assert [level for level, _ in rows(result.out).values()].count("erreur") == 3
    assert result.code == 2


def test_an_absent_secret_py_ends_the_table(well: House) -> None:
    result = well.run("--check", "--config", str(well.folder / "nowhere.py"))
    assert result.code == 2
    assert list(rows(result.out)) == ["heure de la machine", "secret.py"]


def test_a_login_refused_is_said(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    house = House(tmp_path, broker, simulated=False)
    house.secret(gxpassword="a secret of mine")
    result = house.run("--check", at=EVENING)
    house.close()
    level, said = rows(result.out)["GX"]
    assert (result.code, level) == (4, "erreur")
    assert "gxpassword" in said
    assert "a secret of mine" not in result.text


def test_prowl_down_is_not_blamed_on_the_key(well: House) -> None:
    prowl_says(500, "Internal error")(well)
    result = well.run("--check", at=EVENING)
    level, said = rows(result.out)["Prowl"]
    assert (result.code, level) == (0, "attention")
    assert "500" in said
    assert "prowlkey" not in said


# ---- Clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "level"), [("UTC", "attention"), ("Europe/Madrid", "OK")])
def test_the_machines_clock_is_judged_by_its_utc_offset(well: House, zone: str, level: str) -> None:
    result = well.run("--check", at=EVENING, env={"TZ": zone})
    found, said = rows(result.out)["heure de la machine"]
    assert (result.code, found) == (0, level)
    assert ("Paris" in said) == (level == "attention")


SAME_CLOCK = dict.fromkeys(("Europe/Berlin", "/Europe/Paris"), "OK")
OTHER_CLOCK = dict.fromkeys(("Europe/London", "Africa/Algiers", "Nowhere/Land"), "attention")


@pytest.mark.parametrize(("zone", "level"), (SAME_CLOCK | OTHER_CLOCK).items())
def test_the_time_zone_of_the_gx_is_judged_by_its_clock(well: House, zone: str, level: str) -> None:
    well.gx.values[gx.TIME_ZONE] = zone
    found, said = rows(well.run("--check", at=EVENING).out)["fuseau du GX"]
    assert found == level
    assert said.startswith(zone)


@pytest.mark.parametrize(
    ("at", "level"), [(MORNING, "OK"), (EVENING, "attention"), (NIGHT, "attention")]
)
def test_a_demain_not_announced_is_normal_before_20_h(well: House, at: str, level: str) -> None:
    well.meter("BLEU", None, "HP")
    well.secret(use_api=False)
    result = well.run("--check", at=at)
    found, said = rows(result.out)["EcoDevice"]
    assert (result.code, found) == (0, level)
    assert "non annoncé" in said
    assert "couleur du jour" not in result.out


def test_quiet_tells_only_what_is_not_ok(well: House) -> None:
    holds(gx.DAY, -7)(well)
    result = well.run("--check", "--quiet", at=EVENING, env=IN_PARIS)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "Schedule 1" in result.err


@pytest.mark.parametrize("wrong", [{"gxtls": "True"}, {"gxport": "8883"}, {"gxpassword": 12}])
def test_a_gx_whose_access_is_misspelt_is_not_tried(well: House, wrong: dict[str, Any]) -> None:
    """It could be sent its password in clear."""
    well.secret(**wrong)
    result = well.run("--check", at=EVENING)
    assert result.code == 2
    assert "GX" not in rows(result.out)
    assert "tempo_ess-" not in "".join(well.broker.lines)


def test_a_mistyped_name_is_the_line_of_secret_py(well: House) -> None:
    well.secret(prowkey=KEY)
    found, said = rows(well.run("--check", at=EVENING).out)["secret.py"]
    assert (found, said) == ("attention", "prowkey inconnu : vouliez-vous dire prowlkey ?")
