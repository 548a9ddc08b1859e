"""The main job on real peers: the meter over HTTP, a mosquitto, a GX that answers R/ and W/."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gx_simulator as gx
import pytest
from facts import EVENINGS, PROFILES, Evening
from house import Broker, House

PATHS = {"soc": gx.SOC, "min_soc": gx.MIN_SOC, "state": gx.STATE}
STATES = {"on": 1, "off": 10}
NOTHING = "Rien n'a été écrit, le GX garde ses réglages."


def mode(state: int) -> str:
    return "on" if 1 <= state <= 8 else "off" if 10 <= state <= 12 else f"State {state}"


@pytest.fixture
def red_eve(house: House) -> House:
    """22:02 of a blue day before a red one, 20:05 having been missed: three settings to change."""
    house.meter("BLEU", "ROUGE", "HC")
    return house


def simulated(house: House) -> gx.GxSimulator:
    assert house.gx
    return house.gx


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_every_transition_leaves_the_gx_as_the_table_says(house: House, evening: Evening) -> None:
    device = simulated(house)
    device.values |= {
        gx.SOC: 55,
        gx.MIN_SOC: 40.0,
        gx.STATE: 11 if evening.battery_life == "on" else 4,
    }
    before = device.profile()
    house.meter(evening.today, evening.tomorrow, evening.period)
    assert house.run().code == 0
    wanted = (evening.soc, evening.min_soc, evening.battery_life)
    soc, min_soc, state = device.profile()
    assert soc == (before[0] if evening.soc is None else evening.soc)
    assert min_soc == (before[1] if evening.min_soc is None else evening.min_soc)
    assert mode(state) == (
        mode(before[2]) if evening.battery_life is None else evening.battery_life
    )
    written = [path for path, _ in house.writes()]
    assert written == [
        path for path, value in zip(PATHS.values(), wanted, strict=True) if value is not None
    ]
    again = house.run()
    assert again.code == 0
    assert [path for path, _ in house.writes()] == written, "a second run writes nothing"
    assert "déjà en place" in again.out


def test_the_payloads_are_the_ones_that_victron_documents(red_eve: House) -> None:
    assert red_eve.run().code == 0
    assert red_eve.writes() == [
        (gx.SOC, '{"value":100}'),
        (gx.MIN_SOC, '{"value":25}'),
        (gx.STATE, '{"value":10}'),
    ]


def test_the_serial_is_sent_in_lower_case(red_eve: House) -> None:
    red_eve.secret(gxsn="C0619AB12345")
    assert red_eve.run().code == 0
    assert simulated(red_eve).profile()[:2] == (100, 25.0)


def test_only_the_needed_settings_are_asked_for_and_none_twice(house: House) -> None:
    house.meter("BLEU", "BLEU", "HC")
    assert house.run().code == 0
    assert sorted(simulated(house).questions) == sorted(
        [gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE, gx.DAY]
    )
    simulated(house).questions.clear()
    house.meter("BLEU", "BLEU", "HP")
    assert house.run().code == 0
    assert sorted(simulated(house).questions) == sorted([gx.SOC, gx.DAY])


# ---- A plain test mosquitto ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "values"),
    [("HP", [(gx.SOC, 100)]), ("HC", [(gx.SOC, 100), (gx.MIN_SOC, 25), (gx.STATE, 10)])],
)
@pytest.mark.parametrize("arguments", [(), ("--no-confirm",)], ids=["as it is", "--no-confirm"])
def test_a_test_mosquitto_shows_the_values(
    test_broker: House, period: str, values: list[tuple[str, int]], arguments: tuple[str, ...]
) -> None:
    test_broker.meter("BLEU", "ROUGE", period)
    result = test_broker.run(*arguments, scale=0.2)
    assert test_broker.writes() == [(path, f'{{"value":{value}}}') for path, value in values]
    assert result.code == (0 if arguments else 5)
    assert "publié, non confirmé" in result.out
    assert bool("broker de test" in result.err) == (not arguments)
    questions = [one for one in test_broker.watch().seen() if one.topic.startswith("R/")]
    assert bool(questions) == (not arguments)


def test_a_test_mosquitto_and_an_unknown_tomorrow_in_hc_leave_the_charge_out(
    test_broker: House,
) -> None:
    test_broker.meter("BLANC", None, "HC")
    assert test_broker.run("--no-confirm").code == 0
    assert test_broker.writes() == [(gx.MIN_SOC, '{"value":30}'), (gx.STATE, '{"value":1}')]


# ---- Compare -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", range(1, 13))
@pytest.mark.parametrize("tomorrow", ["BLEU", "ROUGE"])
def test_battery_life_is_written_only_when_its_mode_changes(
    house: House, state: int, tomorrow: str
) -> None:
    simulated(house).values[gx.STATE] = state
    house.meter("BLANC", tomorrow, "HC")
    result = house.run()
    assert result.code == 0
    wanted = PROFILES[tomorrow][2]
    written = [value for path, value in simulated(house).writes if path == gx.STATE]
    assert written == ([] if state == 9 or mode(state) == wanted else [STATES[wanted]])
    assert ("Keep batteries charged" in result.err) == (state == 9)


def test_external_control_leaves_battery_life_alone_and_sets_the_rest(red_eve: House) -> None:
    simulated(red_eve).values[gx.HUB4_MODE] = 3
    result = red_eve.run()
    assert result.code == 0
    assert simulated(red_eve).profile() == (100, 25.0, 2)
    assert "Hub4Mode 3" in result.err
    [push] = red_eve.internet.pushes
    assert push["description"] == (
        "Demain ROUGE, prêt : charge 100 %, MinSoc 25 % (confirmés) ; BatteryLife laissé tel quel"
    )


def test_a_minsoc_of_30_0_is_30(house: House) -> None:
    house.meter("BLEU", "BLANC", "HC")
    assert house.run().code == 0
    assert [path for path, _ in simulated(house).writes] == [gx.SOC]


# ---- Somebody else was here ----------------------------------------------------------------------

ON_BLEU = ("BLEU", "ROUGE", "HC")
# What the GX holds, the evening, arguments, what is said.
SOMEBODY: dict[str, tuple[dict[str, Any], tuple[str, str, str], tuple[str, ...], str | None]] = {
    "MinSoc": ({gx.MIN_SOC: 20.0}, ON_BLEU, (), "MinSoc était à 20 % au lieu de 30 %"),
    "SoC": ({gx.SOC: 55}, ("BLEU", "BLANC", "HP"), (), "SoC était à 55 % au lieu de 80 %"),
    "State": ({gx.STATE: 11}, ("BLEU", "BLANC", "HC"), (), "BatteryLife était à off au lieu de on"),
    "under --quiet": ({gx.MIN_SOC: 20.0}, ON_BLEU, ("--quiet",), "MinSoc était à 20 %"),
    "today imposed": ({gx.MIN_SOC: 20.0}, ON_BLEU, ("--today", "bleu"), None),
    "not written in HP": ({gx.MIN_SOC: 20.0}, ("BLEU", "ROUGE", "HP"), (), None),
    "a change of colour, 20:05 missed": ({}, ON_BLEU, (), None),
    "a change of colour": ({gx.SOC: 100}, ON_BLEU, (), None),
    "done already": ({gx.SOC: 100, gx.MIN_SOC: 25.0, gx.STATE: 12}, ON_BLEU, (), None),
    "State 9": ({gx.STATE: 9}, ON_BLEU, (), None),
}


@pytest.mark.parametrize(("held", "evening", "arguments", "said"), SOMEBODY.values(), ids=SOMEBODY)
def test_a_value_that_somebody_else_set_is_named_and_written_over(
    house: House,
    held: dict[str, Any],
    evening: tuple[str, str, str],
    arguments: tuple[str, ...],
    said: str | None,
) -> None:
    device = simulated(house)
    device.values |= held
    house.meter(*evening)
    result = house.run(*arguments)
    assert result.code == 0
    assert device.values[gx.SOC] == PROFILES[evening[1]][0]
    if evening[2] == "HC":
        assert device.values[gx.MIN_SOC] == PROFILES[evening[1]][1]
    assert result.err.count("était à") == bool(said)
    assert (said or "") in result.err
    assert bool(result.err) == bool(said or 9 in held.values())


# ---- Confirm -------------------------------------------------------------------------------------


def test_a_refused_value_is_named_with_what_it_stayed_at(red_eve: House) -> None:
    simulated(red_eve).refused[gx.MIN_SOC] = 99
    result = red_eve.run(scale=0.2)
    assert result.code == 5
    assert simulated(red_eve).profile() == (100, 30.0, 11)
    assert [value for path, value in simulated(red_eve).writes if path == gx.MIN_SOC] == [25, 25]
    assert "MinSoc : 30 % -> 25 %, refusé par le GX, reste à 30 %" in result.out
    [push] = red_eve.internet.pushes
    assert push["priority"] == "1"
    assert "demain ROUGE" in push["description"]
    assert "MinSoc : 30 % -> 25 %, refusé par le GX, reste à 30 %" in push["description"]
    assert "BatteryLife : on -> off, confirmé" in push["description"]


def test_a_value_refused_once_and_taken_the_second_time_is_right(red_eve: House) -> None:
    simulated(red_eve).refused[gx.STATE] = 1
    result = red_eve.run(scale=0.2)
    assert result.code == 0
    assert [value for path, value in simulated(red_eve).writes if path == gx.STATE] == [10, 10]
    assert "BatteryLife : on -> off, confirmé" in result.out


@pytest.mark.parametrize("seconds", [0.4, 0.97])
def test_an_old_venus_that_is_slow_to_answer_works(red_eve: House, seconds: float) -> None:
    simulated(red_eve).delay = seconds
    simulated(red_eve).spaced = True
    result = red_eve.run()
    assert result.code == 0
    assert simulated(red_eve).profile()[:2] == (100, 25.0)
    assert {path for path, _ in simulated(red_eve).writes} == {gx.SOC, gx.MIN_SOC, gx.STATE}
    assert result.out.count("confirmé") >= 3


def test_a_setting_that_falls_silent_after_the_write_is_not_called_confirmed(
    red_eve: House,
) -> None:
    device = simulated(red_eve)
    device.on_write = device.mute.add
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert sum(line.endswith("publié, non confirmé") for line in result.out.splitlines()[:4]) == 3
    assert "prêt" not in red_eve.internet.pushes[0]["description"]


# ---- Silence -------------------------------------------------------------------------------------


def test_another_serial_is_named_and_nothing_is_written(red_eve: House) -> None:
    red_eve.secret(gxsn="ffffffffffff")
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert "c0619ab12345" in result.err
    assert red_eve.writes() == []
    assert "c0619ab12345" in red_eve.internet.pushes[0]["description"]


def test_a_gx_whose_settings_stay_silent_gets_nothing_written(red_eve: House) -> None:
    simulated(red_eve).up = False
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert "le GX est là mais ses réglages ne répondent pas" in result.err
    assert red_eve.writes() == []
    assert NOTHING in red_eve.internet.pushes[0]["description"]


def test_a_wrong_serial_where_none_is_announced_may_be_a_test_broker_or_not(
    red_eve: House,
) -> None:
    simulated(red_eve).client.publish(f"N/{gx.SN}/system/0/Serial", "", retain=True)
    red_eve.secret(gxsn="ffffffffffff")
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert "broker de test" in result.err
    assert "gxsn n'est pas ffffffffffff" in result.err
    assert len(red_eve.writes()) == 3
    assert simulated(red_eve).writes == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda device, path: device.publish(path, payload=""),
        lambda device, path: device.publish(path, payload='{"value": null}'),
        lambda device, path: device.publish(path, payload='{"value": "80"}'),
        lambda device, path: device.publish(path, payload='{"value": true}'),
        lambda device, path: device.publish(path, payload='{"value": NaN}'),
        lambda device, path: device.publish(path, payload='{"value": 1e400}'),
        lambda device, path: device.publish(path, payload="[[[" * 9000),
        lambda device, path: device.publish(path, payload=b"\xff\x1b[31m"),
    ],
    ids=["empty", "null", "text", "true", "NaN", "infinite", "nested", "bytes"],
)
def test_what_is_not_a_live_number_is_no_answer_but_shows_a_real_gx(
    red_eve: House, answer: Callable[[gx.GxSimulator, str], None]
) -> None:
    """Even with no serial announced, an N/<sn>/ message says that this is not a test broker."""
    device = simulated(red_eve)
    device.client.publish(f"N/{gx.SN}/system/0/Serial", "", retain=True).wait_for_publish(5)
    device.mute = set(device.values)
    device.on_question = lambda path: answer(device, path)
    result = red_eve.run("--verbose", scale=0.05)
    assert result.code == 5
    assert "le GX est là mais ses réglages ne répondent pas" in result.err
    assert red_eve.writes() == []
    assert "\x1b" not in result.text


def test_retained_values_alone_are_no_answer(red_eve: House) -> None:
    device = simulated(red_eve)
    device.mute = set(device.values)
    for path in (gx.SOC, gx.MIN_SOC, gx.STATE):
        device.client.publish(f"N/{gx.SN}/{path}", '{"value": 1}', retain=True).wait_for_publish(5)
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert "le GX est là mais ses réglages ne répondent pas" in result.err
    assert red_eve.writes() == []


def test_a_stale_retained_value_does_not_stand_for_the_answer(red_eve: House) -> None:
    """The retained 100 % says "nothing to do"; the live 80 % says otherwise."""
    device = simulated(red_eve)
    device.client.publish(f"N/{gx.SN}/{gx.SOC}", '{"value": 100}', retain=True).wait_for_publish(5)
    assert red_eve.run().code == 0
    assert (gx.SOC, 100) in device.writes


def test_settings_that_do_not_answer_are_named_and_the_others_are_set(red_eve: House) -> None:
    simulated(red_eve).mute = {gx.MIN_SOC}
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert simulated(red_eve).profile() == (100, 30.0, 11)
    assert [path for path, _ in red_eve.writes()] == [gx.SOC, gx.STATE]
    assert "MinSoc" in result.err
    assert "MinSoc : ? -> 25 %, réglage sans réponse" in red_eve.internet.pushes[0]["description"]


def test_silent_read_only_settings_mean_nothing(red_eve: House) -> None:
    simulated(red_eve).mute = {gx.DAY, gx.HUB4_MODE}
    result = red_eve.run()
    assert result.code == 0
    assert simulated(red_eve).profile() == (100, 25.0, 11)
    assert result.err == ""


@pytest.mark.parametrize("day", [-7, -1])
def test_an_inactive_schedule_1_is_said_in_the_output_and_in_the_push(
    red_eve: House, day: int
) -> None:
    simulated(red_eve).values[gx.DAY] = day
    result = red_eve.run()
    assert result.code == 0
    assert "Schedule 1 inactif : pas de recharge programmée" in result.out
    assert (
        "Schedule 1 inactif : pas de recharge programmée"
        in red_eve.internet.pushes[0]["description"]
    )


def test_a_gx_that_wakes_up_late_is_set(red_eve: House) -> None:
    """Its settings answer only to the seventh question, after the 5 s of an unannounced GX."""
    device = simulated(red_eve)
    device.up = False
    asked = threading.Event()

    def wake(_path: str) -> None:
        if len(device.questions) > 30:
            device.up = True
            asked.set()

    device.on_question = wake
    assert red_eve.run(scale=0.3).code == 0
    assert asked.is_set()
    assert device.profile() == (100, 25.0, 11)


# ---- Relay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "today", "relay", "closed"),
    [
        ("2026-11-23T06:05", "ROUGE", 1, 1),
        ("2026-11-23T20:05", "BLANC", 2, 1),
        ("2026-11-23T22:02", "ROUGE", 1, 0),
        ("2026-11-23T20:05", "BLEU", 2, 0),
    ],
)
def test_the_relay_is_set_and_confirmed(
    house: House, at: str, today: str, relay: int, closed: int
) -> None:
    path, other = (gx.RELAY_1, gx.RELAY_2) if relay == 1 else (gx.RELAY_2, gx.RELAY_1)
    simulated(house).values |= {path: 1 - closed, other: 1 - closed}
    house.meter(today, None, "HC" if at.endswith("22:02") else "HP")
    house.secret(relais=relay)
    shown = house.run("--dry-run", at=at)
    assert f"Relais {relay}" in shown.out
    assert simulated(house).writes == []
    assert house.run(at=at).code == 0
    assert (simulated(house).values[path], simulated(house).values[other]) == (closed, 1 - closed)
    assert (path, closed) in simulated(house).writes


def test_a_relay_that_does_not_move_is_named(house: House) -> None:
    house.meter("ROUGE", None, "HP")
    house.secret(relais=1)
    simulated(house).refused[gx.RELAY_1] = 99
    result = house.run(at="2026-11-23T20:05", scale=0.1)
    assert result.code == 5
    assert "Relais 1 : ouvert -> fermé, refusé par le GX, reste à ouvert" in result.out


@pytest.mark.parametrize("function", [0, 1])
def test_a_relay_that_is_not_manual_is_set_with_a_warning(house: House, function: int) -> None:
    house.meter("ROUGE", None, "HP")
    house.secret(relais=2)
    simulated(house).values |= {gx.RELAY_2_FUNCTION: function, gx.SOC: 100}
    result = house.run(at="2026-11-23T20:05")
    assert result.code == 0
    assert simulated(house).values[gx.RELAY_2] == 1
    assert "fonction relais 2" in result.err
    assert "Settings > Integrations > Relays" in result.err


@pytest.mark.parametrize("null", [True, False])
def test_a_disabled_relay_has_no_state_and_its_function_is_named(house: House, null: bool) -> None:
    def answer(path: str) -> None:
        if null and path == gx.RELAY_1:
            device.publish(path, payload='{"value":null}')

    device = simulated(house)
    device.on_question = answer
    device.values[gx.RELAY_1_FUNCTION] = -1
    house.meter("BLEU", "ROUGE", "HP")
    house.secret(relais=1)
    result = house.run(scale=0.05)
    assert result.code == 5
    for words in ("le GX ne répond pas pour Relais 1", "fonction relais 1 : désactivée"):
        assert words in result.err
        assert words in house.internet.pushes[0]["description"]
    assert [path for path, _ in device.writes] == [gx.SOC], "the others are set"


def test_the_relay_is_never_touched_unless_asked(red_eve: House) -> None:
    assert red_eve.run(at="2026-11-23T12:00").code == 0
    assert not [one for one in red_eve.watch().seen() if "Relay" in one.topic]


def test_external_control_is_seen_on_a_gx_whose_settings_come_late(red_eve: House) -> None:
    """The first questions, Hub4Mode's and Day's among them, are lost on a GX that starts."""
    device = simulated(red_eve)
    device.values |= {gx.HUB4_MODE: 3, gx.DAY: -7}
    device.up = False

    def wake(_path: str) -> None:
        device.up = len(device.questions) > 12

    device.on_question = wake
    result = red_eve.run(scale=0.3)
    assert result.code == 0
    assert device.profile() == (100, 25.0, 2)
    assert "Hub4Mode 3" in result.err
    assert "Schedule 1 inactif" in result.out


def test_external_control_is_seen_though_a_setting_stays_silent(red_eve: House) -> None:
    """The silent setting uses up Read's whole time: Hub4Mode must have been asked for meanwhile."""
    device = simulated(red_eve)
    device.values[gx.HUB4_MODE] = 3
    device.mute = {gx.MIN_SOC}
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert device.profile() == (100, 30.0, 2)
    assert "Hub4Mode 3" in result.err


def test_a_leaving_gx_of_another_serial_is_no_test_broker(red_eve: House) -> None:
    """It clears its Serial with an empty payload: an N/ message all the same."""
    neighbour = "aaaaaaaaaaaa"
    device = simulated(red_eve)

    def leave(_path: str) -> None:
        device.client.publish(f"N/{neighbour}/system/0/Serial", "")

    device.on_question = leave
    device.client.publish(f"N/{gx.SN}/system/0/Serial", "", retain=True).wait_for_publish(5)
    device.mute = set(device.values)
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert neighbour in result.err
    assert red_eve.writes() == []


def test_two_gx_on_one_broker_do_not_disturb_each_other(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    neighbour = gx.GxSimulator(broker.port, sn="aaaaaaaaaaaa")
    house = House(tmp_path, broker)
    house.meter("BLEU", "ROUGE", "HC")
    before: dict[str, Any] = dict(neighbour.values)
    assert house.run().code == 0
    assert simulated(house).profile() == (100, 25.0, 11)
    assert neighbour.values == before
    neighbour.close()
    house.close()
