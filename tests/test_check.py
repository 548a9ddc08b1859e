"""--check: its table, against the house with each single thing wrong in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import gx_simulator as gx
import pytest
from gx_simulator import GxSimulator
from house import KEY, House, Peer, http
from test_faults import say, stall

import tempo_ess

EVENING = "2026-11-23T20:10"
PASSWORD = "a secret of mine"
NOBODY = "127.0.0.1:1"  # nobody listens there


@pytest.fixture
def well(house: House) -> House:
    """All is well: all sources know, relay 2 is manual, secret.py is private."""
    house.gx.values[gx.RELAY_1_FUNCTION] = 0
    house.meter("BLEU", "ROUGE", "HP")
    house.internet.knows(d2026_11_23="BLEU", d2026_11_24="ROUGE")
    house.names |= {"use_api": True, "relais": 2, "gxpassword": PASSWORD}
    house.secret()
    return house


def rows(text: str) -> dict[str, tuple[str, str]]:
    """The table: subject -> (level, text), without the count that ends it."""
    table = {}
    for line in text.splitlines()[:-1]:
        level, subject, said = line[:9].strip(), line[11:31].strip(), line[33:]
        assert level in ("OK", "attention", "erreur"), line
        table[subject] = level, said
    return table


def test_all_is_well(well: House) -> None:
    well.gx.values[gx.TIME_ZONE] = "/Europe/Berlin"  # whose clock is that of Paris
    well.gx.values[gx.STATE] = 10
    well.secret(gxsn=gx.SN.upper())
    result = well.run("--check", at=EVENING)
    assert (result.code, result.err) == (0, "")
    table = rows(result.out)
    assert result.out.splitlines()[-1] == "0 attention, 0 erreur"
    assert next(iter(table)) == "heure de la machine"
    assert {level for level, _ in table.values()} == {"OK"}
    shown = " ".join(said for _, said in table.values())
    values = ("BLEU", "ROUGE", "HP", "80 %", "30 %", "22 h", "8 h", "Europe/Berlin", gx.SN)
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


def lacks(*paths: str) -> Spoil:
    return lambda house: house.gx.mute.update(paths)


def secret(**changes: Any) -> Spoil:
    return lambda house: house.secret(**changes)


def says(peer: str, status: int, body: str = "<html>") -> Spoil:
    return lambda house: setattr(house.internet, peer, lambda request: http(status, body))


def differ(**told: str) -> Spoil:
    """The meter says BLEU for tomorrow, and these web sources another colour."""

    def spoil(house: House) -> None:
        house.meter("BLEU", "BLEU", "HP")
        house.internet.knows(d2026_11_23="BLEU", d2026_11_24="BLEU")
        for source, colour in told.items():
            house.internet.teach(source, {"2026-11-23": "BLEU", "2026-11-24": colour})

    return spoil


def all_sources_down(house: House) -> None:
    house.secret(ecodevice=NOBODY)
    house.internet.knows()


def answers_login_with(connack: int) -> Spoil:
    """The broker answers a login with this code, then nothing more."""
    return lambda house: house.secret(gxport=Peer(say(bytes([0x20, 2, 0, connack]))).port)


# The exit code (an attention leaves it 0), what is wrong, the line that says it, words in it.
WRONG: list[tuple[int, Spoil, str, str]] = [
    (0, secret(mode=0o644), "secret.py", "chmod 600"),
    (0, secret(mode=0o602), "secret.py", "chmod 600"),
    (2, secret(chgbleu="80"), "secret.py", "chgbleu = '80'"),
    (0, secret(prowkey=KEY), "secret.py", "prowkey | prowlkey ?"),
    (0, secret(ecodevice=NOBODY), "EcoDevice", "connexion refusée"),
    (0, secret(ecodevice="192.168.1..5"), "EcoDevice", "adresse mal écrite"),
    (0, secret(ecodevice="127.0.0.1:99999"), "EcoDevice", "adresse mal écrite"),
    (3, secret(ecodevice=NOBODY, use_api=False), "EcoDevice", "connexion refusée"),
    (3, lambda house: house.answers.update(T1_PTEC="TH.."), "EcoDevice", "Base"),
    (0, says("edf", 502), "EDF", "502"),
    (
        0,
        differ(RTE="ROUGE", EDF="ROUGE"),
        "couleur : demain",
        "EcoDevice BLEU, RTE ROUGE, EDF ROUGE",
    ),
    (0, lambda house: house.meter("BLEU", "BLEU", "HC"), "EcoDevice", "figée"),
    (3, all_sources_down, "couleur du jour", "aucune source"),
    (4, secret(gxport=1), "GX", "connexion refusée"),
    (4, secret(gx="192.168.1..5"), "GX", "adresse mal écrite"),
    (4, answers_login_with(5), "GX", "gxpassword"),
    (5, secret(gxsn="ffffffffffff"), "gxsn", gx.SN),
    (2, secret(gxsn=None), "gxsn", gx.SN),
    (0, holds(gx.DAY, -7), "Schedule 1 Day", "inactif | Programme 1 | Activé"),
    (0, holds(gx.DAY, 8), "Schedule 1 Day", "lundi à vendredi | Programme 1 | Chaque jour"),
    (0, holds(gx.START, 75600), "Schedule 1 Start", "21 h | 22 h | Heure de démarrage"),
    (0, holds(gx.DURATION, 64800), "Schedule 1 Duration", "18 h | 8 h | Durée"),
    (0, holds(gx.ALLOW_DISCHARGE, 1), "Schedule 1 Discharge", "PV & Batterie | Autoconsommation"),
    (0, holds(gx.OTHER_DAYS[0], 7), "Schedule 2 Day", "tous les jours | plannifiés"),
    (0, holds(gx.DYNAMIC_ESS, 1), "Dynamic ESS", "Paramètres > Configuration Système > ESS"),
    (0, lacks(gx.DYNAMIC_ESS), "Dynamic ESS", "non lisible"),
    (0, holds(gx.DYNAMIC_ESS, None), "Dynamic ESS", "non lisible, sans valeur"),
    (4, answers_login_with(0), "GX", "le broker ne répond plus"),
    (0, holds(gx.STATE, 9), "BatteryLife", "Maintenir | Paramètres"),
    (0, holds(gx.HUB4_MODE, 3), "mode ESS", "externe | Paramètres"),
    (0, holds(gx.CHARGE_STATUS, 1), "charge programmée", "pas d'assistant ESS"),
    (0, holds(gx.CHARGE_STATUS, 4), "charge programmée", "Dynamic ESS"),
    (0, holds(gx.TIME_ZONE, "/UTC"), "fuseau du GX", "UTC | Fuseau horaire | Europe/Paris"),
    (0, holds(gx.TIME_ZONE, "Africa/Algiers"), "fuseau du GX", "Algiers"),  # right in winter
    (0, holds(gx.TIME_ZONE, 5), "fuseau du GX", "non lisible"),
    (0, holds(gx.TIME_ZONE, "Nowhere/Land"), "fuseau du GX", "Nowhere"),
    (0, holds(gx.RELAY_2_FUNCTION, 0), "fonction relais", "Manuel | Paramètres"),
    (0, lambda house: house.secret(relais=1), "fonction relais 1", "Manuel | Paramètres"),
    (5, lacks(gx.RELAY_2), "Relais 2", "non lisible"),
    (5, lacks(gx.MIN_SOC), "MinSoc", "non lisible"),
    (5, holds(gx.STATE, None), "BatteryLife", "sans valeur"),
    (5, lacks(*gx.BLUE_EVENING), "réglages du GX", "répond"),
    (0, says("prowl", 401), "Prowl", "401 | vérifiez prowlkey"),
    (0, says("prowl", 500), "Prowl", "réponse"),
]


@pytest.mark.parametrize(
    ("code", "spoil", "subject", "words"), WRONG, ids=[f"{row[2]} {row[3]}" for row in WRONG]
)
def test_a_single_thing_wrong_is_said_where_it_is(
    well: House, code: int, spoil: Spoil, subject: str, words: str
) -> None:
    spoil(well)
    result = well.run("--check", at=EVENING, scale=0.3)
    table = rows(result.out)
    found = [row for name, row in table.items() if name.startswith(subject)]
    assert found, result.text
    level, said = found[0]
    assert level == ("erreur" if code else "attention")
    assert [word for word in words.split(" | ") if word not in said] == []
    assert result.code == code
    assert KEY not in result.text
    assert PASSWORD not in result.text
    assert result.out.splitlines()[-1].endswith(" 0 erreur") == (code == 0)
    if subject == "gxsn":
        assert "MinSoc" not in table, "the settings wait for the right one"
        assert "réglages du GX" not in table
        assert "Prowl" in table, "all else does not"
    elif "gxsn" in table:
        assert table["gxsn"][0] == "OK", "a right serial is never called wrong"
    assert well.writes() == []


@pytest.mark.parametrize("zone", ["Africa/Johannesburg", "Europe/Kaliningrad", "Africa/Algiers"])
@pytest.mark.parametrize("month", [1, 4, 7, 10])
def test_a_time_zone_is_judged_by_winter_and_summer_on_any_day(
    monkeypatch: pytest.MonkeyPatch, zone: str, month: int
) -> None:
    now = datetime(2027, month, 15, 20, 5, tzinfo=tempo_ess.PARIS)
    monkeypatch.setattr(tempo_ess, "paris_now", lambda: now)
    assert not tempo_ess.has_paris_clock(zone)
    assert tempo_ess.has_paris_clock("/Europe/Warsaw")


@pytest.mark.parametrize(
    ("at", "held", "level"),
    [
        ("23T22:10", {gx.CHARGE: 0}, "attention"),
        ("24T05:50", {gx.CHARGE: 0}, "attention"),
        ("23T22:10", {gx.CHARGE: 1}, "OK"),
        ("23T22:10", {gx.CHARGE: 0, gx.DAY: -7}, "OK"),
        ("23T20:10", {gx.CHARGE: 0}, None),
        ("23T22:10", {gx.CHARGE: None}, None),
    ],
)
def test_at_night_the_gx_says_itself_whether_it_charges(
    well: House, at: str, held: dict[str, Any], level: str | None
) -> None:
    well.meter("BLEU", "ROUGE", "HC")
    well.gx.values |= held
    table = rows(well.run("--check", at=f"2026-11-{at}").out)
    assert table.get("charge de cette nuit", (None,))[0] == level


def test_an_older_venus_has_no_line_for_what_it_does_not_know(well: House) -> None:
    well.gx.mute = {gx.CHARGE, gx.CHARGE_STATUS}
    table = rows(well.run("--check", at="2026-11-23T22:10", scale=0.2).out)
    assert [subject for subject in table if subject.startswith("charge")] == []


@pytest.mark.parametrize("gxsn", [gx.SN, None])
def test_a_gx_that_stalls_is_no_missing_one(well: House, gxsn: str | None) -> None:
    well.secret(gxsn=gxsn, gxport=Peer(stall(well.broker.port, True, ends=True)).port)
    result = well.run("--check", at=EVENING, scale=0.2)
    table = rows(result.out)
    assert table["gxsn"][0] == ("OK" if gxsn else "erreur")
    assert gx.SN in table["gxsn"][1]
    assert (table.get("MinSoc") == ("OK", "30 %")) == bool(gxsn)


def test_gxsn_is_right_while_systemcalc_restarts_and_announces_none(well: House) -> None:
    well.gx.leave_no_serial()
    result = well.run("--check", at=EVENING)
    table = rows(result.out)
    assert (result.code, table["gxsn"][0], table["MinSoc"]) == (0, "OK", ("OK", "30 %"))


def test_a_test_broker_is_no_wrong_gxsn(test_broker: House) -> None:
    result = test_broker.run("--check", scale=0.1)
    assert rows(result.out)["gxsn"][0] == "attention"


def test_the_right_gxsn_is_right_beside_a_gx_that_comes_first(well: House) -> None:
    well.gx.close()
    well.broker.stop()
    well.broker.start()
    neighbour = GxSimulator(well.broker.port, sn="aaaaaaaaaaaa")
    well.gx = GxSimulator(well.broker.port)
    result = well.run("--check", at=EVENING)
    assert (result.code, rows(result.out)["gxsn"][0]) == (0, "OK")
    neighbour.close()


def test_what_the_gx_took_back_is_not_shown(well: House) -> None:
    device = well.gx
    device.on_question = lambda _: device.settings_down() if len(device.questions) > 6 else None
    result = well.run("--check", at=EVENING, scale=0.1)
    assert result.code == 5
    assert "30 %" not in result.out
    assert "tous les jours" not in result.out


def test_the_exit_code_is_that_of_the_first_error(well: House) -> None:
    well.answers["T1_PTEC"] = "TH.."
    well.secret(chgbleu="80", gxport=1)
    result = well.run("--check", at=EVENING)
    assert [level for level, _ in rows(result.out).values()].count("erreur") == 3
    assert result.code == 2


def test_an_absent_secret_py_ends_the_table(well: House) -> None:
    result = well.run("--check", "--config", str(well.folder / "nowhere.py"))
    assert result.code == 2
    assert list(rows(result.out)) == ["heure de la machine", "secret.py"]
    assert result.out.splitlines()[-1] == "0 attention, 1 erreur"


@pytest.mark.parametrize(
    "wrong",
    [
        {"gxtls": "True"},
        {"gxtls": True, "gxcert": "x"},
        {"gxport": "8883"},
        {"gxpassword": 12},
        {"gxuser": 12},
    ],
)
def test_a_gx_whose_access_is_misspelt_is_not_tried(well: House, wrong: dict[str, Any]) -> None:
    """It could be sent its password in clear."""
    well.secret(**wrong)
    result = well.run("--check", at=EVENING)
    assert result.code == 2
    assert "GX" not in rows(result.out)
    assert "tempo_ess-" not in "".join(well.broker.lines)


@pytest.mark.parametrize("line", ["gxtls: bool = True", "gxtls = gxcert = True"])
def test_nor_is_it_when_a_line_that_cannot_be_read_could_be_its_access(
    well: House, line: str
) -> None:
    names = "".join(f"{name} = {value!r}\n" for name, value in well.names.items())
    well.secret(f"{names}{line}\n")
    result = well.run("--check", at=EVENING)
    assert result.code == 2
    assert "tempo_ess-" not in "".join(well.broker.lines)


@pytest.mark.parametrize(("zone", "level"), [("UTC", "attention"), ("Africa/Lagos", "OK")])
def test_the_machines_clock_is_judged_by_its_utc_offset(well: House, zone: str, level: str) -> None:
    result = well.run("--check", at=EVENING, env={"TZ": zone})
    found, said = rows(result.out)["heure de la machine"]
    assert (result.code, found) == (0, level)
    assert ("Paris" in said) == (level == "attention")


@pytest.mark.parametrize(
    ("at", "level"), [("23T19:59", "OK"), ("23T20:00", "attention"), ("24T01:00", "attention")]
)
def test_a_demain_not_announced_is_normal_before_20_h(well: House, at: str, level: str) -> None:
    well.meter("BLEU", None, "HP")
    well.secret(use_api=False)
    result = well.run("--check", at=f"2026-11-{at}")
    found, said = rows(result.out)["EcoDevice"]
    assert (result.code, found) == (0, level)
    assert "non annoncé" in said
    assert "couleur du jour" not in result.out


def test_quiet_tells_only_what_is_not_ok(well: House) -> None:
    well.gx.values[gx.DAY] = -7
    result = well.run("--check", "--quiet", at=EVENING)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "Schedule 1" in result.err
