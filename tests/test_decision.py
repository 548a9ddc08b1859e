"""The decision and what is known of the GX: no clock, no file, no network; so no fixture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from facts import EVENINGS, PROFILES, Evening

import tempo_ess
from tempo_ess import (
    BATTERY_LIFE,
    DAY,
    HUB4_MODE,
    MIN_SOC,
    RELAYS,
    SOC,
    Config,
    Couleur,
    Fate,
    Ledger,
    Periode,
    Secret,
    Setting,
    Tempo,
)

SN = "c0619ab12345"
NIGHT = datetime(2026, 11, 22, 22, 2)
STATES = {"on": 1, "off": 10}
BLUE = {SOC: 80, MIN_SOC: 30.0, BATTERY_LIFE: 2}  # as the GX shows it: a float, a moved State
RED = {SOC: 100, MIN_SOC: 25, BATTERY_LIFE: 10}


def tempo(today: str, tomorrow: str | None, period: str) -> Tempo:
    return Tempo(Couleur(today), Couleur(tomorrow) if tomorrow else None, Periode(period))


def config(**names: Any) -> Config:
    """The configuration of a secret.py with these names."""
    return tempo_ess.read_config(Secret(names), Path())


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{time}")


def hear(ledger: Ledger, values: Mapping[Setting, Any], retained: bool = False) -> None:
    """The GX says these values; None: an empty payload."""
    for setting, value in values.items():
        payload = b"" if value is None else json.dumps({"value": value}).encode()
        ledger.hear(f"N/{SN}/{setting.path}", payload, retained)


def ledger_of(target: dict[Setting, int], values: Mapping[Setting, Any]) -> Ledger:
    """A run with this target that has heard these values."""
    ledger = Ledger(SN, target, [DAY, HUB4_MODE])
    hear(ledger, values)
    return ledger


def changes(target: dict[Setting, int], values: Mapping[Setting, Any]) -> dict[Setting, int]:
    return ledger_of(target, values).changes()


def written(ledger: Ledger) -> Ledger:
    """The same run after it wrote its changes and has not heard of them yet."""
    for setting in ledger.changes():
        ledger.write(setting)
    return ledger


# ---- The target ----------------------------------------------------------------------------------


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_target_holds_what_the_table_says(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), config(), NIGHT)
    state = STATES[evening.battery_life] if evening.battery_life else None
    expected = {SOC: evening.soc, MIN_SOC: evening.min_soc, BATTERY_LIFE: state}
    assert target == {setting: value for setting, value in expected.items() if value is not None}


def test_secret_py_changes_the_profiles() -> None:
    red = config(chgrouge=98, minrouge=12, blrouge=True).profiles[Couleur.ROUGE]
    assert tempo_ess.profile_settings(red) == {SOC: 98, MIN_SOC: 12, BATTERY_LIFE: 1}


@pytest.mark.parametrize(
    ("time", "today", "closed"),
    [
        ("05:59", "ROUGE", 0),
        ("06:00", "ROUGE", 1),
        ("06:05", "BLANC", 1),
        ("12:00", "BLEU", 0),
        ("21:59", "ROUGE", 1),
        ("22:00", "ROUGE", 0),
        ("22:02", "ROUGE", 0),
    ],
)
def test_the_relay_follows_todays_colour_inside_its_window(
    time: str, today: str, closed: int
) -> None:
    for tomorrow in ("BLEU", "ROUGE", None):
        for period in ("HP", "HC"):
            evening = tempo(today, tomorrow, period)
            target = tempo_ess.target_settings(evening, config(relais=2), at(time))
            assert target[RELAYS[2]] == closed
            assert RELAYS[1] not in target


def test_the_relay_follows_its_own_colours_and_hours() -> None:
    own = config(relais=1, relais_couleurs=["BLEU"], relais_debut="11:30", relais_fin="12:15")
    states = [
        tempo_ess.target_settings(tempo("BLEU", None, "HP"), own, at(time))[RELAYS[1]]
        for time in ("11:29", "11:30", "12:14", "12:15")
    ]
    assert states == [0, 1, 1, 0]


# ---- What differs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "mode"),
    [*[(state, 1) for state in range(1, 9)], *[(state, 10) for state in (10, 11, 12)]],
)
def test_battery_life_is_compared_by_mode(state: int, mode: int) -> None:
    other = 11 - mode
    assert changes({BATTERY_LIFE: mode}, {BATTERY_LIFE: state}) == {}
    assert changes({BATTERY_LIFE: other}, {BATTERY_LIFE: state}) == {BATTERY_LIFE: other}


@pytest.mark.parametrize("state", [-1, 0, 13, 2.5, 99])
@pytest.mark.parametrize("target", [1, 10])
def test_a_state_outside_1_to_12_counts_as_different(state: float, target: int) -> None:
    assert changes({BATTERY_LIFE: target}, {BATTERY_LIFE: state}) == {BATTERY_LIFE: target}


OWNERS = {"State 9": {BATTERY_LIFE: 9}, "Hub4Mode 3": {HUB4_MODE: 3}}


@pytest.mark.parametrize("choice", OWNERS.values(), ids=OWNERS)
def test_the_owners_choice_is_left_alone_and_the_rest_is_written(
    choice: dict[Setting, int],
) -> None:
    ledger = ledger_of(RED, BLUE | choice)
    assert ledger.changes() == {SOC: 100, MIN_SOC: 25}
    assert ledger.fate(BATTERY_LIFE) is Fate.OWNERS


def test_hub4mode_3_protects_battery_life_even_when_it_was_taken_back() -> None:
    ledger = ledger_of(RED, BLUE | {HUB4_MODE: 1})
    hear(ledger, {HUB4_MODE: 3})
    hear(ledger, {HUB4_MODE: None})
    assert BATTERY_LIFE not in ledger.changes()


def test_a_float_equals_its_integer_and_a_setting_given_up_is_not_written() -> None:
    ledger = ledger_of({SOC: 100, MIN_SOC: 30}, {MIN_SOC: 30.0})
    ledger.mute.add(SOC)
    assert ledger.changes() == {}
    assert ledger.fates() == {SOC: Fate.MUTE, MIN_SOC: Fate.KEPT}


# ---- What is known -------------------------------------------------------------------------------


def test_an_empty_payload_takes_an_answer_back() -> None:
    ledger = ledger_of(RED, BLUE)
    assert ledger.missing(RED) == []
    hear(ledger, {MIN_SOC: None})
    assert ledger.missing(RED) == [MIN_SOC]
    assert ledger.taken_back


def test_what_was_right_and_taken_back_is_asked_again_and_not_written_blindly() -> None:
    ledger = written(ledger_of(RED, BLUE | {BATTERY_LIFE: 11, MIN_SOC: 25}))
    hear(ledger, {SOC: None, BATTERY_LIFE: None, MIN_SOC: None})
    assert set(ledger.missing(RED)) == set(RED)
    assert set(ledger.changes()) == {SOC}


def test_an_empty_payload_takes_a_confirmation_back() -> None:
    ledger = written(ledger_of(RED, BLUE))
    hear(ledger, RED)
    assert set(ledger.fates().values()) == {Fate.CONFIRMED}
    hear(ledger, {SOC: None})
    assert ledger.missing(RED) == [SOC]
    assert ledger.fate(SOC) is Fate.PUBLISHED


def test_a_retained_value_is_no_answer_but_shows_a_real_gx() -> None:
    ledger = Ledger(SN, RED, [])
    assert not ledger.may_still_answer()
    hear(ledger, BLUE, retained=True)
    assert ledger.missing(RED) == list(RED)
    assert ledger.may_still_answer()


@pytest.mark.parametrize(
    "payload", [b"null", b"[]", b"{", b'{"value":null}', b'{"value":"80"}', b'{"value":true}']
)
def test_what_is_not_a_number_is_no_answer(payload: bytes) -> None:
    ledger = Ledger(SN, RED, [])
    ledger.hear(f"N/{SN}/{SOC.path}", payload, False)
    assert ledger.missing([SOC]) == [SOC]


def test_a_late_old_answer_after_a_write_confirms_nothing() -> None:
    ledger = written(ledger_of(RED, BLUE))
    hear(ledger, BLUE)
    assert ledger.missing(RED) == list(RED)
    hear(ledger, RED | {BATTERY_LIFE: 11})
    assert ledger.missing(RED) == []
    assert set(ledger.fates().values()) == {Fate.CONFIRMED}


def test_a_refused_setting_is_told_with_the_value_that_it_keeps() -> None:
    ledger = written(ledger_of(RED, BLUE))
    hear(ledger, RED | {MIN_SOC: 30.0})
    assert ledger.fate(MIN_SOC) is Fate.REFUSED
    assert ledger.line(MIN_SOC) == "MinSoc : 30 % -> 25 %, refusé par le GX, reste à 30 %"


def test_another_serial_is_noted_and_its_values_are_not_ours() -> None:
    ledger = Ledger(SN, RED, [])
    for path in ("system/0/Serial", SOC.path):
        ledger.hear(f"N/ffffffffffff/{path}", b'{"value":100}', False)
    assert ledger.serials == {"ffffffffffff"}
    assert ledger.missing(RED) == list(RED)
    assert not ledger.may_still_answer()


# ---- Somebody else was here ----------------------------------------------------------------------


def strangers(today: str, target: dict[Setting, int], before: dict[Setting, Any]) -> list[str]:
    return tempo_ess.somebody_else(target, config().profiles[Couleur(today)], before)


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (SOC, 55, "Schedule 1 SoC était à 55 % au lieu de 80 %"),
        (MIN_SOC, 20.0, "MinSoc était à 20 % au lieu de 30 %"),
        (BATTERY_LIFE, 0, "BatteryLife était à 0 au lieu de on"),
    ],
)
def test_a_strangers_value_is_named_with_the_one_expected(
    setting: Setting, value: float, told: str
) -> None:
    [warning] = strangers("BLEU", RED, BLUE | {setting: value})
    assert warning == (
        f"{told} : changé à la main, par un autre programme (evcc, VRM), ou une soirée manquée ?"
    )


@pytest.mark.parametrize(
    ("target", "before"),
    [
        (RED, BLUE),
        (RED, BLUE | {SOC: 100}),
        (RED, {}),
        ({SOC: 100}, BLUE | {MIN_SOC: 20.0}),
    ],
    ids=["change of colour or a missed 20:05", "charge set at 20:05", "unread", "in HP"],
)
def test_no_stranger_is_suspected(target: dict[Setting, int], before: dict[Setting, float]) -> None:
    assert strangers("BLEU", target, before) == []


# ---- The push for a change of colour -------------------------------------------------------------


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_a_push_is_due_for_a_known_change_of_colour_and_only_then(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), config(), NIGHT)
    ledger = written(ledger_of(target, {SOC: 55, MIN_SOC: 11.0, BATTERY_LIFE: 0}))
    hear(ledger, target)
    notice = tempo_ess.change_notice(tempo(*evening[:3]), config(), ledger.fates())
    if evening.tomorrow in (None, evening.today):
        assert notice is None
        return
    soc, min_soc, battery_life = PROFILES[str(evening.tomorrow)]
    rest = f"MinSoc {min_soc} %, BatteryLife {battery_life}"
    assert notice == (
        f"Demain {evening.tomorrow} : charge {soc} % (confirmée) ; à 22 h {rest}"
        if evening.period == "HP"
        else f"Demain {evening.tomorrow}, prêt : charge {soc} %, {rest} (confirmés)"
    )


def test_a_push_in_hp_is_due_even_when_the_charge_was_there() -> None:
    fates = {SOC: Fate.KEPT}
    notice = tempo_ess.change_notice(tempo("BLEU", "ROUGE", "HP"), config(), fates)
    assert notice == "Demain ROUGE : charge 100 % (confirmée) ; à 22 h MinSoc 25 %, BatteryLife off"


def test_no_push_in_hc_when_nothing_changed_but_the_relay() -> None:
    fates = dict.fromkeys(RED, Fate.KEPT) | {RELAYS[1]: Fate.CONFIRMED}
    assert tempo_ess.change_notice(tempo("BLEU", "ROUGE", "HC"), config(), fates) is None


@pytest.mark.parametrize(("period", "target"), [("HP", {SOC: 100}), ("HC", RED)])
def test_a_push_never_claims_what_was_not_confirmed(
    period: str, target: dict[Setting, int]
) -> None:
    ledger = Ledger(SN, target, [])
    for setting in target:
        ledger.write(setting)  # as --no-confirm does
    fates = ledger.fates()
    notice = str(tempo_ess.change_notice(tempo("BLEU", "ROUGE", period), config(), fates))
    assert "publié, non confirmé" in notice
    assert "prêt" not in notice
    assert "confirmée" not in notice


def test_the_22_h_push_leaves_out_a_charge_that_was_there_and_the_owners_choice() -> None:
    ledger = written(ledger_of(RED, {SOC: 100, MIN_SOC: 30.0, BATTERY_LIFE: 9}))
    hear(ledger, {MIN_SOC: 25.0})
    assert tempo_ess.change_notice(tempo("BLEU", "ROUGE", "HC"), config(), ledger.fates()) == (
        "Demain ROUGE, prêt : MinSoc 25 % (confirmé) ; BatteryLife laissé tel quel"
    )


def test_only_the_very_value_is_shown_by_its_name() -> None:
    shown = [DAY.text(value) for value in (7, 7.0, 7.5, -7)]
    assert shown == ["tous les jours", "tous les jours", "7.5", "inactif"]
