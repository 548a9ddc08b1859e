"""The main job on real peers: the meter over HTTP, a mosquitto, a GX that answers R/ and W/."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import gx_simulator as gx
import pytest
from facts import EVENINGS, Evening
from gx_simulator import GxSimulator
from house import House

STATES = {"on": 1, "off": 10, None: None}
NOTHING = "rien n'a été écrit, le GX garde ses réglages"
ALIVE = "le GX est là mais ses réglages ne répondent pas"
INACTIVE = "Schedule 1 inactif : pas de recharge programmée"
NOT_HELD = "refusé par le GX, ou remis par un autre programme"
SHUT = "Schedule 1 ne s'est pas ouvert : rien ne se charge cette nuit"
OTHER = "aaaaaaaaaaaa"  # the serial of another GX


@pytest.fixture
def red_eve(house: House) -> House:
    """22:02 of a blue day before a red one, 20:05 having been missed: three settings to change."""
    house.meter("BLEU", "ROUGE", "HC")
    return house


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_every_transition_leaves_the_gx_as_the_table_says(house: House, evening: Evening) -> None:
    state = 11 if evening.battery_life == "on" else 4
    house.gx.values |= {gx.SOC: 55, gx.MIN_SOC: 40.0, gx.STATE: state}
    house.meter(evening.today, evening.tomorrow, evening.period)
    assert house.run().code == 0
    wanted = {gx.SOC: evening.soc, gx.MIN_SOC: evening.min_soc}
    wanted[gx.STATE] = STATES[evening.battery_life]
    written = [(path, f'{{"value":{one}}}') for path, one in wanted.items() if one is not None]
    assert house.writes() == written
    again = house.run()
    assert again.code == 0
    assert house.writes() == written, "a second run writes nothing"
    assert "déjà en place" in again.out


def test_three_changes_are_13_messages(red_eve: House) -> None:
    assert red_eve.run().code == 0
    assert len(red_eve.gx.writes) == 3
    assert len(red_eve.gx.questions) == 10


def test_the_gx_is_told_from_its_neighbour_by_its_serial_in_lower_case(red_eve: House) -> None:
    neighbour = GxSimulator(red_eve.broker.port, sn=OTHER)
    red_eve.secret(gxsn=gx.SN.upper())
    assert red_eve.run().code == 0
    assert red_eve.gx.profile() == (100, 25.0, 11)
    assert neighbour.values == gx.BLUE_EVENING
    neighbour.close()


IN_HC = [gx.SOC, gx.MIN_SOC, gx.STATE, gx.DAY, gx.HUB4_MODE, gx.CHARGE, gx.CHARGE_STATUS]


@pytest.mark.parametrize(("period", "needed"), [("HC", IN_HC), ("HP", [gx.SOC, gx.DAY])])
def test_only_the_needed_settings_are_asked_for_and_none_twice(
    house: House, period: str, needed: list[str]
) -> None:
    house.meter("BLEU", "BLEU", period)
    assert house.run().code == 0
    assert sorted(house.gx.questions) == sorted(needed), "7 messages in HC"
    assert house.writes() == []
    heard = re.findall(r"\t(N/\S+) \(QoS 0\)", "".join(house.broker.lines))
    assert sorted(heard) == sorted(["N/+/system/0/Serial", *(f"N/{gx.SN}/{x}" for x in needed)])


@pytest.mark.parametrize("arguments", [(), ("--no-confirm",)], ids=["as it is", "--no-confirm"])
def test_a_test_mosquitto_shows_the_values(test_broker: House, arguments: tuple[str, ...]) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    result = test_broker.run(*arguments, scale=0.2)
    shown = [(gx.SOC, '{"value":100}'), (gx.MIN_SOC, '{"value":25}'), (gx.STATE, '{"value":10}')]
    assert test_broker.writes() == shown
    assert result.code == (0 if arguments else 5)
    assert "publié, non confirmé" in result.out
    for words in ("broker de test", f"gxsn = {gx.SN}"):
        assert (words in result.err) == (not arguments)
    questions = [one for one in test_broker.watch().seen() if one.topic.startswith("R/")]
    assert bool(questions) == (not arguments)


# ---- Compare -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (gx.HUB4_MODE, 3, "contrôle externe (Hub4Mode 3)"),
        (gx.STATE, 9, "Maintenir les batteries chargées (Keep batteries charged, State 9)"),
    ],
)
def test_the_owners_choice_leaves_battery_life_alone_and_the_rest_is_set(
    red_eve: House, path: str, value: int, said: str
) -> None:
    red_eve.gx.values |= {path: value, gx.CHARGE: 0}  # nor is a shut window told
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    assert red_eve.gx.writes == [(gx.SOC, 100), (gx.MIN_SOC, 25)]
    told = f"{said} : c'est votre choix, BatteryLife laissé tel quel"
    assert told in result.out
    assert told in red_eve.push("1")


@pytest.mark.parametrize(("path", "value"), [(gx.HUB4_MODE, 3), (gx.STATE, 9)])
def test_what_the_owner_chose_is_no_reason_for_a_push(house: House, path: str, value: int) -> None:
    house.meter("BLEU", "BLEU", "HC")
    house.gx.values |= {path: value, gx.DAY: -7}
    assert house.run("--quiet") == (0, "", "")
    assert house.internet.pushes == []


# What the GX holds, tomorrow's colour, the period, what is said.
SOMEBODY: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "MinSoc": ({gx.MIN_SOC: 20.0}, "ROUGE", "HC", "MinSoc était à 20 % au lieu de 30 %"),
    "SoC": ({gx.SOC: 55}, "BLANC", "HP", "SoC était à 55 % au lieu de 80 %"),
    "State": ({gx.STATE: 11}, "BLANC", "HC", "BatteryLife était à off au lieu de on"),
    "done already": ({gx.SOC: 100, gx.MIN_SOC: 25.0, gx.STATE: 12}, "ROUGE", "HC", ""),
    "a change of colour, 20:05 missed": ({}, "ROUGE", "HC", ""),
}


@pytest.mark.parametrize(("held", "tomorrow", "period", "said"), SOMEBODY.values(), ids=SOMEBODY)
def test_a_value_that_somebody_else_set_is_named_and_written_over(
    house: House, held: dict[str, Any], tomorrow: str, period: str, said: str
) -> None:
    house.gx.values |= held
    house.meter("BLEU", tomorrow, period)
    result = house.run("--quiet")
    assert result.code == 0
    assert result.err.count("était à") == bool(said)
    assert said in result.err
    assert bool(result.err) == bool(said)
    if said:
        assert held.keys() <= dict(house.gx.writes).keys()


def test_nobody_is_suspected_while_todays_colour_is_imposed(red_eve: House) -> None:
    red_eve.gx.values[gx.MIN_SOC] = 20.0
    result = red_eve.run("--today", "bleu")
    assert (result.code, result.err) == (0, "")


# ---- Confirm -------------------------------------------------------------------------------------


def test_a_write_is_tried_twice_and_a_refused_value_is_named_with_what_it_stayed_at(
    red_eve: House,
) -> None:
    red_eve.gx.refused.update({gx.MIN_SOC: 99, gx.STATE: 1})
    result = red_eve.run(scale=0.2)
    assert result.code == 5
    assert red_eve.gx.profile() == (100, 30.0, 11)
    tries = Counter(path for path, _ in red_eve.gx.writes)
    assert tries == {gx.SOC: 1, gx.MIN_SOC: 2, gx.STATE: 2}
    assert result.err == f"erreur : MinSoc non tenu, le GX montre 30 % : {NOT_HELD}\n"
    assert red_eve.push("1").splitlines() == [
        f"erreur : MinSoc non tenu, le GX montre 30 % : {NOT_HELD}",
        "Demain ROUGE",
        "Schedule 1 SoC : 80 % -> 100 %, confirmé",
        "MinSoc : 30 % -> 25 %, non tenu",
        "BatteryLife : on -> off, confirmé",
    ]


def test_a_value_that_another_program_puts_back_after_each_write_is_not_held(
    red_eve: House,
) -> None:
    device = red_eve.gx
    device.on_write = lambda _: device.values.update({gx.MIN_SOC: 40.0})
    result = red_eve.run(scale=0.2)
    assert result.code == 5
    said = f"MinSoc non tenu, le GX montre 40 % : {NOT_HELD}"
    assert said in result.err
    assert said in red_eve.push("1")


@pytest.mark.parametrize("nothing", [None, []], ids=["null", "[]"])
def test_a_setting_without_value_is_named_at_once_and_the_others_are_set(
    red_eve: House, nothing: Any
) -> None:
    red_eve.gx.values[gx.STATE] = nothing
    start = time.monotonic()
    result = red_eve.run()
    assert time.monotonic() - start < 30, "not the 60 s of a GX that starts"
    assert result.code == 5
    said = "le GX n'a pas de valeur pour BatteryLife : fonction désactivée, ou ESS non configuré ?"
    assert said in result.err
    assert said in red_eve.push("1")
    assert red_eve.gx.writes == [(gx.SOC, 100), (gx.MIN_SOC, 25)]


def test_an_old_venus_whose_answers_to_the_first_read_come_after_the_write_works(
    red_eve: House,
) -> None:
    """Asked a second time before it answers, it shows the old value once more."""
    scale = 0.5
    red_eve.gx.delay = 1.3 * scale
    result = red_eve.run(scale=scale)
    assert result.code == 0
    assert red_eve.gx.profile()[:2] == (100, 25.0)
    assert [path for path, _ in red_eve.gx.writes] == [gx.SOC, gx.MIN_SOC, gx.STATE]
    assert result.out.count("confirmé") >= 3


def test_a_setting_that_falls_silent_after_the_write_is_not_called_confirmed(
    red_eve: House,
) -> None:
    red_eve.gx.on_write = red_eve.gx.mute.add
    result = red_eve.run(scale=0.1)
    assert result.code == 5
    assert len(red_eve.gx.writes) == 2 * 3, "each once more"
    assert result.out.count("publié, non confirmé") == 3
    assert ", confirmé" not in red_eve.push("1")


# ---- Silence -------------------------------------------------------------------------------------

# The only message that ever comes, and what is said of it.
SILENT: dict[str, tuple[str, str | bytes, str]] = {
    "its serial": (f"N/{gx.SN}/system/0/Serial", f'{{"value": "{gx.SN}"}}', ALIVE),
    "a text": (f"N/{gx.SN}/{gx.SOC}", '{"value": "80"}', ALIVE),
    "bytes": (f"N/{gx.SN}/{gx.SOC}", b"\xff\x1b[31m", ALIVE),
    "another serial": (f"N/{OTHER}/system/0/Serial", f'{{"value": "{OTHER}"}}', OTHER),
}


@pytest.mark.parametrize(("topic", "payload", "said"), SILENT.values(), ids=SILENT)
def test_a_gx_without_live_numbers_is_no_test_broker_and_gets_nothing_written(
    red_eve: House, topic: str, payload: str | bytes, said: str
) -> None:
    red_eve.gx.leave_no_serial()
    red_eve.gx.mute = set(red_eve.gx.values)
    red_eve.gx.on_question = lambda _: red_eve.gx.client.publish(topic, payload)
    result = red_eve.run("--verbose", scale=0.03)
    assert result.code == 5
    assert red_eve.writes() == []
    for words in (NOTHING, said):
        assert words in red_eve.push("1")
        assert words in result.err
    assert "\x1b" not in result.text


@pytest.mark.parametrize("mode", [[], ["--check"]], ids=["run", "--check"])
def test_a_wrong_gxsn_names_every_gx_of_the_broker(red_eve: House, mode: list[str]) -> None:
    neighbour = GxSimulator(red_eve.broker.port, sn=OTHER)
    red_eve.secret(gxsn="b" * 12)
    result = red_eve.run(*mode, scale=0.1)
    assert result.code == 5
    assert red_eve.writes() == []
    assert f"annoncé ici : {OTHER}, {gx.SN}" in result.text
    neighbour.close()


def test_a_setting_that_only_a_retained_value_shows_is_named_and_the_others_are_set(
    red_eve: House,
) -> None:
    old = red_eve.gx.client.publish(f"N/{gx.SN}/{gx.MIN_SOC}", '{"value": 25}', retain=True)
    old.wait_for_publish(5)
    red_eve.gx.mute = {gx.MIN_SOC}
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert red_eve.gx.profile() == (100, 30.0, 11)
    assert "MinSoc" in result.err
    assert "MinSoc : ? -> 25 %, ne répond pas" in red_eve.push("1")


def test_an_owners_choice_made_while_a_silent_setting_is_waited_for_is_respected(
    red_eve: House,
) -> None:
    device = red_eve.gx
    device.mute = {gx.RELAY_1}
    red_eve.secret(relais=1)
    asked = device.questions

    def choose(path: str) -> None:
        if path == gx.RELAY_1 and asked.count(path) == 8:
            device.values[gx.STATE] = 9

    device.on_question = choose
    result = red_eve.run(scale=0.05)
    assert result.code == 5
    assert "Relais 1 : ne répond pas" in result.err
    assert device.writes == [(gx.SOC, 100), (gx.MIN_SOC, 25)]
    assert "c'est votre choix" in result.out


def test_time_to_confirm_is_left_when_a_silent_setting_is_waited_for(red_eve: House) -> None:
    red_eve.gx.mute = {gx.RELAY_1}
    red_eve.secret(relais=1)
    result = red_eve.run(
        limits={"GX_WORK": 3, "ANSWER": 0.5, "ASK_AGAIN": 0.2, "READ_ONLY_WAIT": 0.2}
    )
    assert result.code == 5
    assert result.out.count(", confirmé") == 3
    assert len(red_eve.gx.writes) == 3


def test_silent_read_only_settings_mean_nothing_and_are_not_waited_for(red_eve: House) -> None:
    red_eve.gx.mute = {gx.DAY, gx.HUB4_MODE, gx.CHARGE, gx.CHARGE_STATUS}
    start = time.monotonic()
    result = red_eve.run()
    assert time.monotonic() - start < 20, "1 s, and much time for a busy machine"
    assert (result.code, result.err) == (0, "")
    assert red_eve.gx.profile() == (100, 25.0, 11)


def test_settings_that_go_away_while_hub4mode_is_waited_for_are_asked_again(
    red_eve: House,
) -> None:
    """It is asked with the others, and a second time once they have answered."""
    device = red_eve.gx
    device.mute = {gx.HUB4_MODE}

    def hook(path: str) -> None:
        if device.up and path == gx.HUB4_MODE and device.questions.count(path) == 2:
            device.settings_down()
        device.up = device.up or len(device.questions) > 15

    device.on_question = hook
    assert red_eve.run(scale=0.3).code == 0
    assert device.profile() == (100, 25.0, 11)


def test_external_control_and_an_inactive_schedule_are_seen_on_a_gx_whose_settings_come_late(
    red_eve: House,
) -> None:
    """The first questions, Hub4Mode's and Day's among them, are lost on a GX that starts."""
    device = red_eve.gx
    device.values |= {gx.HUB4_MODE: 3, gx.DAY: -7}
    device.up = False
    device.on_question = lambda _: setattr(device, "up", len(device.questions) > 15)
    result = red_eve.run(scale=0.3)
    assert result.code == 0
    assert device.profile() == (100, 25.0, 2)
    for words in ("Hub4Mode 3", INACTIVE):
        assert words in result.out
        assert words in red_eve.push("1")


# ---- Will it charge? -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, ""),
        (1, " (pas d'assistant ESS)"),
        (2, " (SoC de la batterie inconnu)"),
        (4, " (Dynamic ESS ?)"),
        (None, ""),
    ],
)
def test_a_window_that_did_not_open_is_told_with_the_gxs_own_reason(
    house: House, status: int | None, reason: str
) -> None:
    """Also when nothing had to change; Venus before 3.60 gives no reason."""
    house.meter("BLEU", "BLEU", "HC")
    house.gx.values |= {gx.CHARGE: 0, gx.CHARGE_STATUS: status or 0}
    house.gx.mute = {gx.CHARGE_STATUS} if status is None else set()
    result = house.run("--quiet")
    assert result.code == 0
    said = f"attention : {SHUT}{reason} ; --check dit ce qui ne va pas"
    assert result.err == f"{said}\n"
    assert said in house.push()


def test_in_hp_the_window_is_not_asked_for(house: House) -> None:
    house.meter("BLEU", "BLEU", "HP")
    house.gx.values[gx.CHARGE] = 0
    assert house.run("--quiet") == (0, "", "")


@pytest.mark.parametrize(("period", "tomorrow"), [("HP", "BLEU"), ("HC", "ROUGE")])
@pytest.mark.parametrize(
    ("day", "words"),
    [(8, "lundi à vendredi"), (0, "dimanche"), (9, "samedi et dimanche"), (11, "par mois")],
)
def test_a_schedule_that_is_not_for_every_day_is_told_in_every_run(
    house: House, period: str, tomorrow: str, day: int, words: str
) -> None:
    house.meter("BLEU", tomorrow, period)
    house.gx.values[gx.DAY] = day
    result = house.run("--quiet")
    assert result.code == 0
    assert words in result.err
    assert words in house.push("1" if tomorrow == "ROUGE" else "0")


@pytest.mark.parametrize(("day", "told"), [(-11, True), (-1, True), (7, False)])
def test_an_inactive_schedule_is_said_and_may_be_a_choice(
    red_eve: House, day: int, told: bool
) -> None:
    red_eve.gx.values |= {gx.DAY: day, gx.CHARGE: 0 if told else 1}
    result = red_eve.run()
    assert (result.code, result.err) == (0, "")
    assert (INACTIVE in result.out) == told
    assert (INACTIVE in red_eve.push("1")) == told


# ---- Relay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "today", "relay", "closed"),
    [
        ("2026-11-23T06:05", "ROUGE", 1, 1),
        ("2026-11-23T22:02", "ROUGE", 1, 0),
        ("2026-11-23T20:05", "BLANC", 2, 1),
        ("2026-11-23T20:05", "BLEU", 2, 0),
    ],
)
def test_the_relay_is_set_and_confirmed_and_the_other_left_alone(
    house: House, at: str, today: str, relay: int, closed: int
) -> None:
    relays = [gx.RELAY_1, gx.RELAY_2]
    house.gx.values |= dict.fromkeys(relays, 1 - closed)
    house.meter(today, None, "HC" if at.endswith("22:02") else "HP")
    house.secret(relais=relay)
    assert house.run(at=at).code == 0
    written = [one for one in house.gx.writes if one[0] in relays]
    assert written == [(relays[relay - 1], closed)]


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [(0, 0, "fonction relais 2 : alarme"), (-1, 5, "Relais 2 : ? -> fermé, ne répond pas")],
    ids=["alarm", "disabled"],
)
def test_a_relay_that_is_not_manual_is_named_and_the_rest_is_set(
    house: House, function: int, code: int, said: str
) -> None:
    house.gx.values[gx.RELAY_2_FUNCTION] = function
    house.meter("BLANC", "ROUGE", "HP")
    house.secret(relais=2)
    result = house.run(at="2026-11-23T20:05", scale=0.03)
    assert result.code == code
    assert house.gx.values[gx.SOC] == 100
    for words in (said, "Intégrations > Relais"):
        assert words in result.text
        assert words in house.push("1")
