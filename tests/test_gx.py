"""The main job on real peers: the meter over HTTP, a mosquitto, a GX that answers R/ and W/."""

from __future__ import annotations

from typing import Any

import gx_simulator as gx
import pytest
from facts import EVENINGS, PROFILES, Evening
from gx_simulator import GxSimulator
from house import House

STATES = {"on": 1, "off": 10}
NOTHING = "Rien n'a été écrit, le GX garde ses réglages."
ALIVE = "le GX est là mais ses réglages ne répondent pas"
INACTIVE = "Schedule 1 inactif : pas de recharge programmée"
NEIGHBOUR = "aaaaaaaaaaaa"  # the serial of another GX


def mode(state: int) -> str:
    return "on" if 1 <= state <= 8 else "off" if 10 <= state <= 12 else f"State {state}"


def payloads(*values: tuple[str, int | None]) -> list[tuple[str, str]]:
    """The W/ messages for these paths and values, but for None."""
    return [(path, f'{{"value":{value}}}') for path, value in values if value is not None]


@pytest.fixture
def red_eve(house: House) -> House:
    """22:02 of a blue day before a red one, 20:05 having been missed: three settings to change."""
    house.meter("BLEU", "ROUGE", "HC")
    return house


@pytest.fixture
def device(house: House) -> GxSimulator:
    """The house's GX."""
    return house.gx


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_every_transition_leaves_the_gx_as_the_table_says(
    house: House, device: GxSimulator, evening: Evening
) -> None:
    wanted = evening.battery_life
    device.values |= {gx.SOC: 55, gx.MIN_SOC: 40.0, gx.STATE: 11 if wanted == "on" else 4}
    before = device.profile()
    house.meter(evening.today, evening.tomorrow, evening.period)
    assert house.run().code == 0
    soc, min_soc, state = device.profile()
    assert soc == (before[0] if evening.soc is None else evening.soc)
    assert min_soc == (before[1] if evening.min_soc is None else evening.min_soc)
    assert mode(state) == (wanted or mode(before[2]))
    written = payloads(
        (gx.SOC, evening.soc), (gx.MIN_SOC, evening.min_soc), (gx.STATE, STATES.get(wanted or ""))
    )
    assert house.writes() == written
    again = house.run()
    assert again.code == 0
    assert house.writes() == written, "a second run writes nothing"
    assert "déjà en place" in again.out


def test_the_gx_is_told_from_its_neighbour_by_its_serial_in_lower_case(
    red_eve: House, device: GxSimulator
) -> None:
    neighbour = GxSimulator(red_eve.broker.port, sn=NEIGHBOUR)
    red_eve.secret(gxsn=gx.SN.upper())
    assert red_eve.run().code == 0
    assert device.profile() == (100, 25.0, 11)
    assert neighbour.values == gx.BLUE_EVENING
    neighbour.close()


@pytest.mark.parametrize(
    ("period", "needed"),
    [("HC", [gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE, gx.DAY]), ("HP", [gx.SOC, gx.DAY])],
)
def test_only_the_needed_settings_are_asked_for_and_none_twice(
    house: House, device: GxSimulator, period: str, needed: list[str]
) -> None:
    house.meter("BLEU", "BLEU", period)
    assert house.run().code == 0
    assert sorted(device.questions) == sorted(needed)


@pytest.mark.parametrize(
    ("evening", "values"),
    [
        (("BLEU", "ROUGE", "HP"), payloads((gx.SOC, 100))),
        (("BLEU", "ROUGE", "HC"), payloads((gx.SOC, 100), (gx.MIN_SOC, 25), (gx.STATE, 10))),
        (("BLANC", None, "HC"), payloads((gx.MIN_SOC, 30), (gx.STATE, 1))),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--no-confirm",)], ids=["as it is", "--no-confirm"])
def test_a_test_mosquitto_shows_the_values(
    test_broker: House, evening: Any, values: Any, arguments: tuple[str, ...]
) -> None:
    test_broker.meter(*evening)
    result = test_broker.run(*arguments, scale=0.2)
    assert test_broker.writes() == values
    assert result.code == (0 if arguments else 5)
    assert "publié, non confirmé" in result.out
    for words in ("broker de test", "gxsn n'est pas c0619ab12345"):
        assert (words in result.err) == (not arguments)
    questions = [one for one in test_broker.watch().seen() if one.topic.startswith("R/")]
    assert bool(questions) == (not arguments)


# ---- Compare -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [(gx.HUB4_MODE, 3, "Hub4Mode 3"), (gx.STATE, 9, "Keep batteries charged")],
)
def test_the_owners_choice_leaves_battery_life_alone_and_the_rest_is_set(
    red_eve: House, device: GxSimulator, path: str, value: int, said: str
) -> None:
    device.values[path] = value
    state = device.values[gx.STATE]
    result = red_eve.run()
    assert result.code == 0
    assert device.profile() == (100, 25.0, state)
    assert [path for path, _ in device.writes] == [gx.SOC, gx.MIN_SOC]
    assert said in result.err
    [push] = red_eve.internet.pushes
    assert push["description"] == (
        "Demain ROUGE, prêt : charge 100 %, MinSoc 25 % (confirmés) ; BatteryLife laissé tel quel"
    )


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
    "done already": ({gx.SOC: 100, gx.MIN_SOC: 25.0, gx.STATE: 12}, ON_BLEU, (), None),
}


@pytest.mark.parametrize(("held", "evening", "arguments", "said"), SOMEBODY.values(), ids=SOMEBODY)
def test_a_value_that_somebody_else_set_is_named_and_written_over(
    house: House, device: GxSimulator, held: Any, evening: Any, arguments: Any, said: str | None
) -> None:
    device.values |= held
    house.meter(*evening)
    result = house.run(*arguments)
    assert result.code == 0
    assert device.values[gx.SOC] == PROFILES[evening[1]][0]
    if evening[2] == "HC":
        assert device.values[gx.MIN_SOC] == PROFILES[evening[1]][1]
    assert result.err.count("était à") == bool(said)
    assert (said or "") in result.err
    assert bool(result.err) == bool(said)


# ---- Confirm -------------------------------------------------------------------------------------


def test_a_refused_value_is_named_with_what_it_stayed_at(
    red_eve: House, device: GxSimulator
) -> None:
    device.refused[gx.MIN_SOC] = 99
    result = red_eve.run(scale=0.2)
    assert result.code == 5
    assert device.profile() == (100, 30.0, 11)
    assert [value for path, value in device.writes if path == gx.MIN_SOC] == [25, 25]
    [push] = red_eve.internet.pushes
    assert push["priority"] == "1"
    assert "demain ROUGE" in push["description"]
    refused = "MinSoc : 30 % -> 25 %, refusé par le GX, reste à 30 %"
    for words in (refused, "BatteryLife : on -> off, confirmé"):
        assert words in result.out
        assert words in push["description"]


def test_a_value_refused_once_and_taken_the_second_time_is_right(
    red_eve: House, device: GxSimulator
) -> None:
    device.refused[gx.STATE] = 1
    result = red_eve.run(scale=0.2)
    assert result.code == 0
    assert [value for path, value in device.writes if path == gx.STATE] == [10, 10]
    assert "BatteryLife : on -> off, confirmé" in result.out


@pytest.mark.parametrize("seconds", [0.4, 0.97])
def test_an_old_venus_that_is_slow_to_answer_works(
    red_eve: House, device: GxSimulator, seconds: float
) -> None:
    device.delay, device.spaced = seconds, True
    result = red_eve.run()
    assert result.code == 0
    assert device.profile()[:2] == (100, 25.0)
    assert {path for path, _ in device.writes} == {gx.SOC, gx.MIN_SOC, gx.STATE}
    assert result.out.count("confirmé") >= 3


def test_a_setting_that_falls_silent_after_the_write_is_not_called_confirmed(
    red_eve: House, device: GxSimulator
) -> None:
    device.on_write = device.mute.add
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert sum(line.endswith("publié, non confirmé") for line in result.out.splitlines()[:4]) == 3
    assert "prêt" not in red_eve.internet.pushes[0]["description"]


# ---- Silence -------------------------------------------------------------------------------------


# The only message that ever comes, and what is said of it.
SILENT: dict[str, tuple[str, str | bytes, str]] = {
    "a serial": (f"N/{gx.SN}/system/0/Serial", f'{{"value": "{gx.SN}"}}', ALIVE),
    "null": (f"N/{gx.SN}/{gx.SOC}", '{"value": null}', ALIVE),
    "bytes": (f"N/{gx.SN}/{gx.SOC}", b"\xff\x1b[31m", ALIVE),
    "another serial": (f"N/{NEIGHBOUR}/system/0/Serial", f'{{"value": "{NEIGHBOUR}"}}', NEIGHBOUR),
    "another serial that leaves": (f"N/{NEIGHBOUR}/system/0/Serial", "", NEIGHBOUR),
}


@pytest.mark.parametrize(("topic", "payload", "said"), SILENT.values(), ids=SILENT)
def test_a_gx_without_live_numbers_is_no_test_broker_and_gets_nothing_written(
    red_eve: House, device: GxSimulator, topic: str, payload: str | bytes, said: str
) -> None:
    device.client.publish(f"N/{gx.SN}/system/0/Serial", "", retain=True).wait_for_publish(5)
    device.mute = set(device.values)

    def answer(_path: str) -> None:
        device.client.publish(topic, payload)

    device.on_question = answer
    result = red_eve.run("--verbose", scale=0.07)
    assert result.code == 5
    assert red_eve.writes() == []
    [push] = red_eve.internet.pushes
    assert NOTHING in push["description"]
    assert said in push["description"]
    assert said in result.err
    assert "\x1b" not in result.text


def test_a_retained_value_is_no_answer(red_eve: House, device: GxSimulator) -> None:
    device.client.publish(f"N/{gx.SN}/{gx.SOC}", '{"value": 100}', retain=True).wait_for_publish(5)
    device.mute = {gx.SOC}
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert "Schedule 1 SoC : ? -> 100 %, réglage sans réponse" in result.out


@pytest.mark.parametrize(("hub4_mode", "state"), [(1, 11), (3, 2)], ids=["ESS", "external"])
def test_a_setting_that_does_not_answer_is_named_and_the_others_are_set(
    red_eve: House, device: GxSimulator, hub4_mode: int, state: int
) -> None:
    """It uses up Read's whole time: Hub4Mode must have been asked for meanwhile."""
    device.values[gx.HUB4_MODE] = hub4_mode
    device.mute = {gx.MIN_SOC}
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert device.profile() == (100, 30.0, state)
    assert ("Hub4Mode 3" in result.err) == (hub4_mode == 3)
    assert "MinSoc" in result.err
    assert "MinSoc : ? -> 25 %, réglage sans réponse" in red_eve.internet.pushes[0]["description"]


def test_silent_read_only_settings_mean_nothing(red_eve: House, device: GxSimulator) -> None:
    device.mute = {gx.DAY, gx.HUB4_MODE}
    result = red_eve.run()
    assert result.code == 0
    assert device.profile() == (100, 25.0, 11)
    assert result.err == ""


def test_external_control_and_an_inactive_schedule_are_seen_on_a_gx_whose_settings_come_late(
    red_eve: House, device: GxSimulator
) -> None:
    """The first questions, Hub4Mode's and Day's among them, are lost on a GX that starts."""
    device.values |= {gx.HUB4_MODE: 3, gx.DAY: -7}
    device.up = False
    device.on_question = lambda _: setattr(device, "up", len(device.questions) > 12)
    result = red_eve.run(scale=0.3)
    assert result.code == 0
    assert device.profile() == (100, 25.0, 2)
    assert "Hub4Mode 3" in result.err
    assert INACTIVE in result.out
    assert INACTIVE in red_eve.internet.pushes[0]["description"]


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
    house: House, device: GxSimulator, at: str, today: str, relay: int, closed: int
) -> None:
    path, other = (gx.RELAY_1, gx.RELAY_2) if relay == 1 else (gx.RELAY_2, gx.RELAY_1)
    device.values |= {path: 1 - closed, other: 1 - closed}
    house.meter(today, None, "HC" if at.endswith("22:02") else "HP")
    house.secret(relais=relay)
    shown = house.run("--dry-run", at=at)
    assert f"Relais {relay}" in shown.out
    assert device.writes == []
    assert house.run(at=at).code == 0
    assert (device.values[path], device.values[other]) == (closed, 1 - closed)
    assert (path, closed) in device.writes


# Its function, how many writes are refused, exit code, what is said.
TROUBLES: dict[str, tuple[int, int, int, list[str]]] = {
    "alarm": (0, 0, 0, ["fonction relais 2 : alarme", "Settings > Integrations > Relays"]),
    "disabled": (-1, 0, 5, ["ne répond pas pour Relais 2", "fonction relais 2 : désactivée"]),
    "refused": (2, 99, 5, ["Relais 2 : ouvert -> fermé, refusé par le GX, reste à ouvert"]),
}


@pytest.mark.parametrize(("function", "refused", "code", "said"), TROUBLES.values(), ids=TROUBLES)
def test_a_relay_at_fault_is_named_and_the_others_are_set(
    house: House, device: GxSimulator, function: int, refused: int, code: int, said: list[str]
) -> None:
    device.values[gx.RELAY_2_FUNCTION] = function
    device.refused[gx.RELAY_2] = refused
    house.meter("BLANC", "ROUGE", "HP")
    house.secret(relais=2)
    result = house.run(at="2026-11-23T20:05", scale=0.1)
    assert result.code == code
    assert device.values[gx.RELAY_2] == (code == 0)
    assert device.values[gx.SOC] == 100
    for words in said:
        assert words in result.text
        assert words in house.internet.pushes[0]["description"]


def test_the_relay_is_never_touched_unless_asked(red_eve: House) -> None:
    assert red_eve.run(at="2026-11-23T12:00").code == 0
    assert not [one for one in red_eve.watch().seen() if "Relay" in one.topic]
