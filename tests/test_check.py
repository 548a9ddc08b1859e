"""--check: the table of SPEC.md section 9, against the house with each single thing wrong in turn."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gx_simulator as gx
import pytest
from house import KEY, PROWL_OK, Broker, House, http

EVENING = "2026-11-23T20:10"
MORNING = "2026-11-23T09:00"
NIGHT = "2026-11-24T01:00"


@pytest.fixture
def well(house: House) -> House:
    """All is well: the meter announces, both web sources know, the relay is manual, secret.py is private."""
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
    result = well.run("--check", at=EVENING)
    assert result.code == 0
    assert result.err == ""
    table = rows(result.out)
    assert {level for level, _ in table.values()} == {"OK"}
    shown = " ".join(said for _, said in table.values())
    for value in ("BLEU", "ROUGE", "HP", "80 %", "30 %", "22:00", "8 h", "Europe/Paris", "clé acceptée"):
        assert value in shown
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


def api_down(house: House) -> None:
    house.internet.api = lambda request: http(500, "<html>")


def web_and_eco_down(house: House) -> None:
    for down in (eco_down, rte_down, api_down):
        down(house)


def prowl_refuses(house: House) -> None:
    house.internet.prowl = lambda request: http(401, "<prowl><error code='401'>Invalid API key</error></prowl>")


def broker_down(house: House) -> None:
    house.broker.stop()


def names(**changes: Any) -> Callable[[House], None]:
    return lambda house: house.names.update(changes)


def silent_gx(house: House) -> None:
    device(house).up = False


# what is wrong, the line that says it, its level, words in it, and the exit code
WRONG: dict[str, tuple[Callable[[House], None], str, str, tuple[str, ...], int]] = {
    "EcoDevice down": (eco_down, "EcoDevice", "attention", ("connexion refusée",), 0),
    "not a TEMPO contract": (base_contract, "EcoDevice", "erreur", ("Base",), 3),
    "RTE down": (rte_down, "RTE", "attention", ("503",), 0),
    "api-couleur-tempo.fr down": (api_down, "api-couleur-tempo", "attention", ("500",), 0),
    "every source down": (web_and_eco_down, "couleur du jour", "erreur", (), 3),
    "broker down": (broker_down, "GX", "erreur", ("connexion refusée",), 4),
    "another gxsn": (names(gxsn="ffffffffffff"), "gxsn", "erreur", (gx.SN,), 5),
    "no gxsn": (names(gxsn=None), "gxsn", "erreur", (gx.SN,), 2),
    "Schedule 1 inactive": (holds(gx.DAY, -7), "Schedule 1 Day", "attention", ("inactif", "Settings"), 0),
    "Schedule 1 at another time": (holds(gx.START, 75600), "Schedule 1 Start", "attention", ("21:00", "22:00"), 0),
    "Schedule 1 too short": (holds(gx.DURATION, 18000), "Schedule 1 Duration", "attention", ("5 h", "8 h"), 0),
    "battery above the limit": (holds(gx.ALLOW_DISCHARGE, 1), "Schedule 1 Discharge", "attention", ("PV & Batt",), 0),
    "Dynamic ESS on": (holds(gx.DYNAMIC_ESS, 1), "Dynamic ESS", "attention", ("Settings",), 0),
    "Dynamic ESS unknown to the GX": (lacks(gx.DYNAMIC_ESS), "Dynamic ESS", "attention", ("non lisible",), 0),
    "Keep batteries charged": (holds(gx.STATE, 9), "BatteryLife", "attention", ("Settings",), 0),
    "external control": (holds(gx.HUB4_MODE, 3), "Mode ESS", "attention", ("externe", "Settings"), 0),
    "time zone UTC": (holds(gx.TIME_ZONE, "UTC"), "fuseau du GX", "attention", ("UTC", "Europe/Paris"), 0),
    "relay not manual": (holds(gx.RELAY_2_FUNCTION, 0), "fonction relais", "attention", ("Manual", "Settings"), 0),
    "relay silent": (lacks(gx.RELAY_2), "Relais 2", "erreur", ("non lisible",), 5),
    "settings silent": (silent_gx, "réglages du GX", "erreur", (), 5),
    "MinSoc silent": (lacks(gx.MIN_SOC), "MinSoc", "erreur", ("non lisible",), 5),
    "Prowl key refused": (prowl_refuses, "Prowl", "attention", ("401", "prowlkey"), 0),
}


@pytest.mark.parametrize(("spoil", "subject", "level", "words", "code"), WRONG.values(), ids=WRONG)
def test_a_single_thing_wrong_is_said_where_it_is(
    well: House, spoil: Callable[[House], None], subject: str, level: str, words: tuple[str, ...], code: int
) -> None:
    spoil(well)
    well.secret()
    result = well.run("--check", at=EVENING, scale=0.3)
    table = rows(result.out)
    assert ("gxsn" in table) == (subject == "gxsn"), "a right serial is never called wrong"
    found = next(row for name, row in table.items() if name.startswith(subject))
    assert found[0] == level
    for word in words:
        assert word in found[1]
    assert result.code == code
    assert KEY not in result.text
    if well.broker.process.poll() is None:
        assert well.writes() == []


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


@pytest.mark.parametrize(("at", "level"), [(MORNING, "OK"), (EVENING, "attention"), (NIGHT, "attention")])
def test_a_demain_that_is_not_announced_is_normal_before_20_h(well: House, at: str, level: str) -> None:
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


def test_an_absent_secret_py_is_one_line(well: House) -> None:
    result = well.run("--check", "--config", str(well.folder / "nowhere.py"))
    assert result.code == 2
    assert list(rows(result.out)) == ["secret.py"]


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
    result = well.run("--check", "--quiet", at=EVENING)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "Schedule 1" in result.err


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": ""}, False), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_a_terminal_without_no_color(well: House, env: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    process = well.start("--check", at=EVENING, env={"TERM": "xterm", **env}, stdout=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: the script has closed its side
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert process.wait(60) == 0
    if process.stderr:
        process.stderr.close()
    assert (b"\x1b[" in shown) == coloured
    assert "clé acceptée".encode() in shown


def test_prowl_is_asked_without_a_notification(well: House) -> None:
    well.internet.prowl = lambda request: http(200, PROWL_OK)
    assert well.run("--check", "--verbose", at=EVENING).code == 0
    [request] = well.internet.asked("api.prowlapp.com")
    assert request.target.startswith("/publicapi/verify?")
