"""The decision: no clock, no file, no network; so no fixture."""

from __future__ import annotations

from datetime import datetime

import pytest
from facts import EVENINGS, PROFILES, Evening

import tempo_ess
from tempo_ess import BATTERY_LIFE, HUB4_MODE, MIN_SOC, RELAYS, SOC, Config, Couleur, Periode, Tempo

NIGHT = datetime(2026, 11, 22, 22, 2)
STATES = {"on": 1, "off": 10}


def tempo(today: str, tomorrow: str | None, period: str) -> Tempo:
    return Tempo(Couleur(today), Couleur(tomorrow) if tomorrow else None, Periode(period))


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_target_holds_what_the_table_says(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), Config(), NIGHT)
    state = STATES[evening.battery_life] if evening.battery_life else None
    expected = {SOC: evening.soc, MIN_SOC: evening.min_soc, BATTERY_LIFE: state}
    assert target == {setting: value for setting, value in expected.items() if value is not None}


def test_secret_py_changes_the_profiles() -> None:
    config = Config(chgrouge=98, minrouge=12, blrouge=True)
    assert tempo_ess.profile(config, Couleur.ROUGE) == {SOC: 98, MIN_SOC: 12, BATTERY_LIFE: 1}


@pytest.mark.parametrize("state", [*range(1, 9)])
def test_states_1_to_8_are_on(state: int) -> None:
    assert tempo_ess.changes({BATTERY_LIFE: 1}, {BATTERY_LIFE: state}) == {}
    assert tempo_ess.changes({BATTERY_LIFE: 10}, {BATTERY_LIFE: state}) == {BATTERY_LIFE: 10}


@pytest.mark.parametrize("state", [10, 11, 12])
def test_states_10_to_12_are_off(state: int) -> None:
    assert tempo_ess.changes({BATTERY_LIFE: 10}, {BATTERY_LIFE: state}) == {}
    assert tempo_ess.changes({BATTERY_LIFE: 1}, {BATTERY_LIFE: state}) == {BATTERY_LIFE: 1}


@pytest.mark.parametrize("state", [-1, 0, 13, 2.5, 99])
@pytest.mark.parametrize("target", [1, 10])
def test_a_state_outside_1_to_12_counts_as_different(state: float, target: int) -> None:
    assert tempo_ess.changes({BATTERY_LIFE: target}, {BATTERY_LIFE: state}) == {BATTERY_LIFE: target}


@pytest.mark.parametrize("values", [{BATTERY_LIFE: 9}, {BATTERY_LIFE: 2, HUB4_MODE: 3}], ids=["State 9", "Hub4Mode 3"])
def test_the_owners_choice_is_left_alone_and_the_rest_is_written(values: dict[tempo_ess.Setting, float]) -> None:
    target = {SOC: 100, MIN_SOC: 25, BATTERY_LIFE: 10}
    assert tempo_ess.changes(target, {SOC: 80, MIN_SOC: 30.0, **values}) == {SOC: 100, MIN_SOC: 25}


def test_a_float_equals_its_integer_and_what_did_not_answer_is_not_written() -> None:
    assert tempo_ess.changes({SOC: 100, MIN_SOC: 30}, {MIN_SOC: 30.0}) == {}


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
def test_the_relay_follows_todays_colour_inside_its_window(time: str, today: str, closed: int) -> None:
    now = datetime.fromisoformat(f"2026-11-23T{time}")
    for tomorrow in ("BLEU", "ROUGE", None):
        for period in ("HP", "HC"):
            target = tempo_ess.target_settings(tempo(today, tomorrow, period), Config(relais=2), now)
            assert target[RELAYS[1]] == closed
            assert RELAYS[0] not in target


def test_the_relay_follows_its_own_colours_and_hours() -> None:
    config = Config(relais=1, relais_couleurs=["BLEU"], relais_debut="11:30", relais_fin="12:15")
    states = {
        time: tempo_ess.target_settings(tempo("BLEU", None, "HP"), config, datetime.fromisoformat(f"2026-11-23T{time}"))
        for time in ("11:29", "11:30", "12:14", "12:15")
    }
    assert [target[RELAYS[0]] for target in states.values()] == [0, 1, 1, 0]


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_a_push_is_due_for_a_known_change_of_colour_and_only_then(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), Config(), NIGHT)
    before = {SOC: 55, MIN_SOC: 11.0, BATTERY_LIFE: 0}
    outcomes = [tempo_ess.outcome(one, value, before, target, target) for one, value in target.items()]
    notice = tempo_ess.change_notice(tempo(*evening[:3]), Config(), outcomes)
    due = evening.tomorrow not in (None, evening.today)
    assert bool(notice) == due
    if due and evening.tomorrow:
        soc, min_soc, battery_life = PROFILES[evening.tomorrow]
        rest = f"MinSoc {min_soc} %, BatteryLife {battery_life}"
        assert notice == (
            f"Demain {evening.tomorrow} : charge {soc} % (confirmée) ; à 22 h {rest}"
            if evening.period == "HP"
            else f"Demain {evening.tomorrow}, prêt : charge {soc} %, {rest} (confirmés)"
        )


def test_a_push_never_claims_what_was_not_confirmed() -> None:
    for period, target in (("HP", {SOC: 100}), ("HC", {SOC: 100, MIN_SOC: 25, BATTERY_LIFE: 10})):
        outcomes = [tempo_ess.outcome(one, value, {}, {}, target) for one, value in target.items()]
        notice = tempo_ess.change_notice(tempo("BLEU", "ROUGE", period), Config(), outcomes)
        assert "publié, non confirmé" in notice
        assert "prêt" not in notice
        assert "confirmée" not in notice


def test_the_22_h_push_leaves_out_a_charge_that_was_there_and_the_owners_choice() -> None:
    before = {SOC: 100, MIN_SOC: 30.0, BATTERY_LIFE: 9}
    after = before | {MIN_SOC: 25.0}
    target = {SOC: 100, MIN_SOC: 25, BATTERY_LIFE: 10}
    outcomes = [tempo_ess.outcome(one, value, before, after, {MIN_SOC}) for one, value in target.items()]
    assert tempo_ess.change_notice(tempo("BLEU", "ROUGE", "HC"), Config(), outcomes) == (
        "Demain ROUGE, prêt : MinSoc 25 % (confirmé) ; BatteryLife laissé tel quel"
    )


def test_only_the_very_value_is_shown_by_its_name() -> None:
    assert [tempo_ess.DAY.text(value) for value in (7, 7.0, 7.5, -7)] == ["tous les jours"] * 2 + ["7.5", "-7"]
