"""--check: its table, against the house with each single thing wrong in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gx_simulator as gx
import pytest
from house import KEY, PROWL_OK, Broker, House, http

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
    assert well.internet.pushes == []


def device(house: House) -> gx.GxSimulator:
    assert house.gx
    return house.gx


def holds(path: str, value: Any) -> Callable[[House], None]:
    return lambda house: device(house).values.update({path: value})


def lacks(path: str) -> Callable[[House], None]:
    return lambda house: device(house).mute.add(path)


def eco_down(house: House) -> None:
    house.eco.close()


def base_contract(house: House) -> None:
    house.answers["T1_PTEC"] = "TH.."


def rte_down(house: House) -> None:
    house.internet.rte = lambda request: http(503, "down")


def edf_down(house: House) -> None:
    house.internet.edf = lambda request: http(502, "")


def api_down(house: House) -> None:
    house.internet.api = lambda request: http(500, "<html>")


def eco_alone_down(house: House) -> None:
    eco_down(house)
    house.names["use_api"] = False


def web_and_eco_down(house: House) -> None:
    for down in (eco_down, rte_down, edf_down, api_down):
        down(house)


def prowl_says(status: int, words: str) -> Callable[[House], None]:
    body = f"<prowl><error code='{status}'>{words}</error></prowl>"

    def spoil(house: House) -> None:
        house.internet.prowl = lambda request: http(status, body)

    return spoil


def broker_down(house: House) -> None:
    house.broker.stop()


def names(**changes: Any) -> Callable[[House], None]:
    return lambda house: house.names.update(changes)


def other_day(number: int) -> str:
    return gx.OTHER_DAYS[number - 2]


def silent_gx(house: House) -> None:
    device(house).up = False


class Wrong(NamedTuple):
    """What is wrong, the line that says it, its level, words in it, and the exit code."""

    spoil: Callable[[House], None]
    subject: str
    level: str
    words: tuple[str, ...]
    code: int = 0


def attention(spoil: Callable[[House], None], subject: str, *words: str) -> Wrong:
    return Wrong(spoil, subject, "attention", words)


def error(code: int, spoil: Callable[[House], None], subject: str, *words: str) -> Wrong:
    return Wrong(spoil, subject, "erreur", words, code)


WRONG = {
    "EcoDevice down": attention(eco_down, "EcoDevice", "connexion refusée"),
    "EcoDevice down, no web": error(3, eco_alone_down, "EcoDevice", "connexion refusée"),
    "not a TEMPO contract": error(3, base_contract, "EcoDevice", "Base"),
    "RTE down": attention(rte_down, "RTE", "503"),
    "EDF down": attention(edf_down, "EDF", "502"),
    "api-couleur-tempo.fr down": attention(api_down, "api-couleur-tempo", "500"),
    "every source down": error(3, web_and_eco_down, "couleur du jour"),
    "broker down": error(4, broker_down, "GX", "connexion refusée"),
    "another gxsn": error(5, names(gxsn="ffffffffffff"), "gxsn", gx.SN),
    "no gxsn": error(2, names(gxsn=None), "gxsn", gx.SN),
    "Schedule 1 inactive": attention(holds(gx.DAY, -7), "Schedule 1 Day", "inactif", "Settings"),
    "Schedule 1 too early": attention(holds(gx.START, 75600), "Schedule 1 Start", "21 h", "22:00"),
    "Schedule 1 too short": attention(
        holds(gx.DURATION, 18000), "Schedule 1 Duration", "5 h", "8 h"
    ),
    "battery above the limit": attention(
        holds(gx.ALLOW_DISCHARGE, 1), "Schedule 1 Discharge", "PV & Batt"
    ),
    "Schedule 2 active": attention(
        holds(other_day(2), 7), "Schedule 2 Day", "tous les jours", "Settings"
    ),
    "Schedule 5 active": attention(holds(other_day(5), 3), "Schedule 5 Day", "Settings"),
    "no Schedule 3": attention(lacks(other_day(3)), "Schedule 3 Day", "non lisible"),
    "Dynamic ESS on": attention(holds(gx.DYNAMIC_ESS, 1), "Dynamic ESS", "Settings"),
    "no Dynamic ESS": attention(lacks(gx.DYNAMIC_ESS), "Dynamic ESS", "non lisible"),
    "Keep batteries charged": attention(holds(gx.STATE, 9), "BatteryLife", "Settings"),
    "external control": attention(holds(gx.HUB4_MODE, 3), "Mode ESS", "externe", "Settings"),
    "time zone /UTC": attention(holds(gx.TIME_ZONE, "/UTC"), "fuseau du GX", "UTC", "Europe/Paris"),
    "relay not manual": attention(
        holds(gx.RELAY_2_FUNCTION, 0), "fonction relais", "Manual", "Settings"
    ),
    "relay silent": error(5, lacks(gx.RELAY_2), "Relais 2", "non lisible"),
    "settings silent": error(5, silent_gx, "réglages du GX"),
    "MinSoc silent": error(5, lacks(gx.MIN_SOC), "MinSoc", "non lisible"),
    "Prowl key refused": attention(
        prowl_says(401, "Invalid API key"), "Prowl", "401", "vérifiez prowlkey"
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_single_thing_wrong_is_said_where_it_is(well: House, wrong: Wrong) -> None:
    wrong.spoil(well)
    well.secret()
    result = well.run("--check", at=EVENING, scale=0.3)
    table = rows(result.out)
    if wrong.subject != "gxsn" and "gxsn" in table:
        assert table["gxsn"][0] == "OK", "a right serial is never called wrong"
    found = next((row for name, row in table.items() if name.startswith(wrong.subject)), None)
    assert found, result.text
    assert found[0] == wrong.level
    for word in wrong.words:
        assert word in found[1]
    assert result.code == wrong.code
    assert KEY not in result.text
    if well.broker.process.poll() is None:
        assert well.writes() == []


@pytest.mark.parametrize(("zone", "level"), [("UTC", "attention"), ("Europe/Madrid", "OK")])
def test_the_machines_clock_is_judged_by_its_utc_offset(well: House, zone: str, level: str) -> None:
    result = well.run("--check", at=EVENING, env={"TZ": zone})
    found = rows(result.out)["heure de la machine"]
    assert found[0] == level
    assert ("Paris" in found[1]) == (level == "attention")
    assert result.code == 0


@pytest.mark.parametrize("zone", ["Europe/Berlin", "/Europe/Paris"])
def test_a_time_zone_of_the_gx_with_the_clock_of_paris_is_fine(well: House, zone: str) -> None:
    device(well).values[gx.TIME_ZONE] = zone
    assert rows(well.run("--check", at=EVENING).out)["fuseau du GX"] == ("OK", zone)


@pytest.mark.parametrize("zone", ["Europe/London", "Africa/Algiers", "Nowhere/Land"])
def test_a_time_zone_of_the_gx_with_another_clock_is_an_attention(well: House, zone: str) -> None:
    device(well).values[gx.TIME_ZONE] = zone
    assert rows(well.run("--check", at=EVENING).out)["fuseau du GX"][0] == "attention"


def test_prowl_down_is_not_blamed_on_the_key(well: House) -> None:
    prowl_says(500, "Internal error")(well)
    result = well.run("--check", at=EVENING)
    level, said = rows(result.out)["Prowl"]
    assert result.code == 0
    assert level == "attention"
    assert "500" in said
    assert "prowlkey" not in said


def test_a_meter_that_announces_nothing_is_enough_without_the_web(well: House) -> None:
    well.meter("BLEU", None, "HP")
    well.secret(use_api=False)
    result = well.run("--check", at=EVENING)
    assert result.code == 0
    assert "couleur du jour" not in result.out


def test_it_goes_on_past_a_wrong_serial_with_the_right_one(well: House) -> None:
    well.secret(gxsn="ffffffffffff")
    table = rows(well.run("--check", at=EVENING, scale=0.2).out)
    assert table["MinSoc"] == ("OK", "30 %")


def test_the_exit_code_is_that_of_the_first_error(well: House) -> None:
    base_contract(well)
    broker_down(well)
    well.secret(chgbleu="80")
    result = well.run("--check", at=EVENING, scale=0.1)
    assert [row[0] for row in rows(result.out).values()].count("erreur") == 3
    assert result.code == 2


@pytest.mark.parametrize(
    ("at", "level"), [(MORNING, "OK"), (EVENING, "attention"), (NIGHT, "attention")]
)
def test_a_demain_that_is_not_announced_is_normal_before_20_h(
    well: House, at: str, level: str
) -> None:
    well.meter("BLEU", None, "HP")
    found = rows(well.run("--check", at=at).out)["EcoDevice"]
    assert found[0] == level
    assert "non annoncé" in found[1]


def test_a_secret_py_that_others_read_is_an_attention(well: House) -> None:
    well.secret(mode=0o644)
    result = well.run("--check", at=EVENING)
    assert result.code == 0
    assert rows(result.out)["secret.py"][0] == "attention"
    assert "chmod 600" in result.out


def test_an_absent_secret_py_ends_the_table(well: House) -> None:
    result = well.run("--check", "--config", str(well.folder / "nowhere.py"))
    assert result.code == 2
    assert list(rows(result.out)) == ["heure de la machine", "secret.py"]


def test_a_login_refused_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("house")
    (folder / "passwords").touch(0o600)
    broker = Broker(folder, "allow_anonymous false", f"password_file {folder / 'passwords'}")
    house = House(folder, broker, simulated=False)
    house.secret(gxpassword="a secret of mine")
    result = house.run("--check", at=EVENING)
    house.close()
    assert result.code == 4
    found = rows(result.out)["GX"]
    assert found[0] == "erreur"
    assert "gxpassword" in found[1]
    assert "a secret of mine" not in result.text


def test_quiet_tells_only_what_is_not_ok(well: House) -> None:
    holds(gx.DAY, -7)(well)
    result = well.run("--check", "--quiet", at=EVENING, env=IN_PARIS)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "Schedule 1" in result.err


def test_prowl_is_asked_without_a_notification(well: House) -> None:
    well.internet.prowl = lambda request: http(200, PROWL_OK)
    assert well.run("--check", "--verbose", at=EVENING).code == 0
    [request] = well.internet.asked("api.prowlapp.com")
    assert request.target.startswith("/publicapi/verify?")
