"""The decision and what is known of the GX: no clock, no file, no network; so no fixture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from facts import EVENINGS, Evening

import tempo_ess
from tempo_ess import (
    BATTERY_LIFE,
    CHARGE,
    CHARGE_STATUS,
    DAY,
    HUB4_MODE,
    MIN_SOC,
    RELAYS,
    SOC,
    Couleur,
    GxState,
    Outcome,
    Presence,
)

Target = dict[tempo_ess.Setting, int]
Values = Mapping[tempo_ess.Setting, Any]
SN = "c0619ab12345"
NIGHT = datetime(2026, 11, 22, 22, 2)
BLUE = {SOC: 80, MIN_SOC: 30.0, BATTERY_LIFE: 2}  # as the GX shows it: a float, a moved State
RED = {SOC: 100, MIN_SOC: 25, BATTERY_LIFE: 10}


def tempo(today: str, tomorrow: str | None, period: str) -> tempo_ess.Tempo:
    demain = Couleur(tomorrow) if tomorrow else None
    return tempo_ess.Tempo(Couleur(today), demain, tempo_ess.Periode(period))


def config(**names: Any) -> tempo_ess.Config:
    """The configuration of a secret.py with these names."""
    return tempo_ess.Config(**names)


def hear(state: GxState, values: Values, retained: bool = False) -> None:
    """The GX says these values; None: an empty payload."""
    for setting, value in values.items():
        payload = b"" if value is None else json.dumps({"value": value}).encode()
        state.hear(f"N/{SN}/{setting.path}", payload, retained)


def state_of(target: Target, values: Values) -> GxState:
    """A run with this target that has heard these values."""
    state = GxState(SN, target, [DAY, HUB4_MODE])
    hear(state, values)
    return state


def written(before: Values) -> GxState:
    """A run for a red day that heard these values, wrote its changes, and heard no more yet."""
    state = state_of(RED, before)
    for setting in state.known_wrong():
        state.note_write(setting)
    return state


# ---- The target ----------------------------------------------------------------------------------


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_target_holds_what_the_table_says(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), config(), NIGHT)
    state = {"on": 1, "off": 10, None: None}[evening.battery_life]
    expected = {SOC: evening.soc, MIN_SOC: evening.min_soc, BATTERY_LIFE: state}
    assert target == {setting: value for setting, value in expected.items() if value is not None}


def test_secret_py_changes_the_profiles() -> None:
    red = config(chgrouge=98, minrouge=12, blrouge=True).profile(Couleur.ROUGE)
    assert red == {SOC: 98, MIN_SOC: 12, BATTERY_LIFE: 1}
    assert config(blblanc=False).profile(Couleur.BLANC)[BATTERY_LIFE] == 10


BY_DEFAULT = {"relais": 2}
OWN = {"relais": 1, "relais_couleurs": ["BLEU"], "relais_debut": "11:30", "relais_fin": "12:15"}


@pytest.mark.parametrize(
    ("names", "time", "today", "closed"),
    [
        (BY_DEFAULT, "05:59", "ROUGE", 0),
        (BY_DEFAULT, "06:00", "ROUGE", 1),
        (BY_DEFAULT, "06:05", "BLANC", 1),
        (BY_DEFAULT, "12:00", "BLEU", 0),
        (BY_DEFAULT, "21:59", "ROUGE", 1),
        (BY_DEFAULT, "22:00", "ROUGE", 0),
        (OWN, "11:29", "BLEU", 0),
        (OWN, "11:30", "BLEU", 1),
        (OWN, "12:14", "BLEU", 1),
        (OWN, "12:15", "BLEU", 0),
        (OWN, "12:00", "ROUGE", 0),
    ],
)
def test_the_relay_follows_todays_colour_inside_its_window(
    names: dict[str, Any], time: str, today: str, closed: int
) -> None:
    now = datetime.fromisoformat(f"2026-11-23T{time}")
    for tomorrow in ("BLEU", "ROUGE", None):
        for period in ("HP", "HC"):
            evening = tempo(today, tomorrow, period)
            target = tempo_ess.target_settings(evening, config(**names), now)
            relays = {setting: target[setting] for setting in RELAYS.values() if setting in target}
            assert relays == {RELAYS[names["relais"]]: closed}


# ---- What differs --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [-1, 0, *range(1, 9), 10, 11, 12, 13, 2.5, 99])
def test_battery_life_is_compared_by_mode_and_an_unknown_state_is_different(state: float) -> None:
    for target, same in ((1, range(1, 9)), (10, range(10, 13))):
        due = [] if state in same else [BATTERY_LIFE]
        assert state_of({BATTERY_LIFE: target}, {BATTERY_LIFE: state}).known_wrong() == due


OWNERS = {"State 9": {BATTERY_LIFE: 9}, "Hub4Mode 3": {HUB4_MODE: 3}}


@pytest.mark.parametrize("choice", OWNERS.values(), ids=OWNERS)
def test_the_owners_choice_is_left_alone_and_the_rest_is_written(choice: Target) -> None:
    state = state_of(RED, BLUE | choice)
    assert state.known_wrong() == [SOC, MIN_SOC]
    assert state.outcome(BATTERY_LIFE) is Outcome.OWNERS_CHOICE


@pytest.mark.parametrize(("held", "told"), [(80, 0), (100, 0), (55, 1)])
def test_only_a_value_that_no_evening_leaves_is_a_strangers(held: int, told: int) -> None:
    """80 % is the blue day's, 100 % this run's own, which a GX can lose again before it saves."""
    blue = tempo_ess.Config().profile(Couleur.BLEU)
    assert len(tempo_ess.foreign_changes({SOC: 100}, blue, {SOC: held})) == told


def test_hub4mode_3_protects_battery_life_even_when_it_was_taken_back() -> None:
    state = state_of(RED, BLUE | {HUB4_MODE: 3})
    hear(state, {HUB4_MODE: None})
    state.forget()
    hear(state, BLUE)
    assert BATTERY_LIFE not in state.known_wrong()


@pytest.mark.parametrize("choice", OWNERS.values(), ids=OWNERS)
def test_an_owners_choice_that_shows_after_the_write_is_no_refusal(choice: Target) -> None:
    state = written(BLUE)
    hear(state, BLUE | choice)
    assert state.outcome(BATTERY_LIFE) is Outcome.OWNERS_CHOICE
    assert not state.may_write(BATTERY_LIFE)
    assert state.outcome(SOC) is Outcome.NOT_HELD


def test_a_float_equals_its_integer_and_a_silent_setting_is_not_written() -> None:
    state = state_of({SOC: 100, MIN_SOC: 30}, {MIN_SOC: 30.0})
    assert state.known_wrong() == []
    assert state.outcomes() == {SOC: Outcome.SILENT, MIN_SOC: Outcome.IN_PLACE}


def test_outcomes_are_those_of_the_table_in_the_docstring() -> None:
    """Written or not; what the GX shows: nothing (None), that it has no value (...), a value."""
    table = {
        (False, ...): Outcome.NO_VALUE,
        (True, ...): Outcome.NO_VALUE,
        (False, None): Outcome.SILENT,
        (True, None): Outcome.PUBLISHED,
        (False, 100): Outcome.IN_PLACE,
        (True, 100): Outcome.CONFIRMED,
        (False, 80): Outcome.NOT_WRITTEN,
        (True, 80): Outcome.NOT_HELD,
    }
    for (is_written, shown), outcome in table.items():
        state = GxState(SN, {SOC: 100}, [])
        if is_written:
            state.note_write(SOC)
        if shown is ...:
            state.hear(f"N/{SN}/{SOC.path}", b'{"value":[]}', False)
        elif shown:
            hear(state, {SOC: shown})
        assert state.outcome(SOC) is outcome, (is_written, shown)


# ---- What is known -------------------------------------------------------------------------------


def shown(state: GxState) -> tuple[list[Any], list[Any]]:
    """The settings that are known, and those that are known to be right."""
    known = [setting for setting in state.target if state.has_answered(setting)]
    return known, [setting for setting in state.target if state.is_right(setting)]


def test_an_empty_payload_takes_an_answer_and_a_confirmation_back() -> None:
    state = written(BLUE)
    hear(state, RED)
    assert state.outcomes() == dict.fromkeys(RED, Outcome.CONFIRMED)
    hear(state, {SOC: None})
    assert state.outcome(SOC) is Outcome.PUBLISHED
    state.forget()
    assert state.outcomes() == dict.fromkeys(RED, Outcome.PUBLISHED)
    assert state.known_wrong() == [], "never written blindly"


def test_a_retained_value_is_no_answer_but_shows_a_real_gx() -> None:
    state = GxState(SN, RED, [])
    assert state.presence() is Presence.NOBODY
    hear(state, BLUE, retained=True)
    assert shown(state) == ([], [])
    assert state.presence() is Presence.OURS


def test_what_is_not_a_number_is_no_answer() -> None:
    state = GxState(SN, RED, [])
    for value in ('"80"', "true", "[1]", "NaN", "-Infinity", "9" * 400, '{"a":' * 9999):
        for payload in (value, f'{{"value":{value}}}', "{"):
            state.hear(f"N/{SN}/{SOC.path}", payload.encode(), False)
            assert not state.has_answered(SOC), payload


def test_a_write_is_right_once_the_target_is_shown_and_not_for_a_late_old_answer() -> None:
    state = written(BLUE)
    assert shown(state) == ([], [])
    assert state.known_wrong() == [], "what is silent is not written"
    hear(state, BLUE)
    assert state.known_wrong() == list(RED)
    assert shown(state)[1] == []
    hear(state, RED | {BATTERY_LIFE: 11, MIN_SOC: 30.0})
    assert shown(state)[1] == [SOC, BATTERY_LIFE]
    assert state.lines() == [
        "Schedule 1 SoC : 80 % -> 100 %, confirmé",
        "MinSoc : 30 % -> 25 %, non tenu",
        "BatteryLife : on -> off, confirmé",
    ]


def test_who_is_on_the_broker() -> None:
    state = GxState(SN, RED, [])
    state.lost_tries = 1
    assert state.presence() is Presence.MAY_BE_STARTING, "it may be starting"
    state.hear("N/ffffffffffff/system/0/Serial", b'{"value":100}', False)
    state.hear(f"N/ffffffffffff/{SOC.path}", b'{"value":100}', False)
    assert state.serials == {"ffffffffffff"}
    assert shown(state) == ([], [])
    assert state.presence() is Presence.ANOTHER, "gxsn is wrong"
    state.hear(f"N/{SN}/{DAY.path}", b"", False)
    assert state.presence() is Presence.OURS, "two of them on this broker"


# ---- Tonight's charge ----------------------------------------------------------------------------

SHUT = {CHARGE: 0, DAY: 7, BATTERY_LIFE: 10, HUB4_MODE: 1}


@pytest.mark.parametrize(
    ("values", "time", "said"),
    [
        (SHUT, "22:02", "cette nuit"),
        (SHUT | {CHARGE_STATUS: 0}, "22:00", "cette nuit"),
        (SHUT | {CHARGE_STATUS: 1}, "05:59", "cette nuit (pas d'assistant ESS)"),
        (SHUT | {CHARGE_STATUS: 2}, "22:02", "cette nuit (SoC de la batterie inconnu)"),
        (SHUT | {CHARGE_STATUS: 4}, "22:02", "cette nuit (Dynamic ESS ?)"),
        ({CHARGE: 0}, "22:02", "cette nuit"),
        (SHUT | {CHARGE: 1}, "22:02", None),
        ({DAY: 7}, "22:02", None),
        (SHUT, "06:00", None),
        (SHUT, "21:59", None),
        (SHUT | {DAY: -7}, "22:02", None),
        (SHUT | {BATTERY_LIFE: 9}, "22:02", None),
        (SHUT | {HUB4_MODE: 3}, "22:02", None),
    ],
)
def test_a_window_that_did_not_open_is_told_unless_the_owner_chose_so(
    values: Values, time: str, said: str | None
) -> None:
    told = tempo_ess.why_no_charge(dict(values), datetime.fromisoformat(f"2026-11-23T{time}"))
    sentence = "Schedule 1 ne s'est pas ouvert : rien ne se charge "
    assert told == (said and sentence + said)


# ---- The push for a change of colour -------------------------------------------------------------


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_a_change_of_colour_is_news(evening: Evening) -> None:
    """In HP always, in HC when one of the three settings was changed, the relay apart."""
    read = tempo(*evening[:3])
    is_change = evening.tomorrow not in (None, evening.today)
    for outcome in Outcome:
        outcomes = dict.fromkeys(RED, Outcome.IN_PLACE) | {MIN_SOC: outcome}
        outcomes[RELAYS[1]] = Outcome.CONFIRMED
        changed = outcome in (Outcome.CONFIRMED, Outcome.PUBLISHED)
        is_news = is_change and (evening.period == "HP" or changed)
        assert tempo_ess.is_change_to_announce(read, outcomes, has_failed=False) == is_news
        assert tempo_ess.is_change_to_announce(read, outcomes, has_failed=True) == is_change
