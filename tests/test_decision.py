"""The decision and what is known of the GX: no clock, no file, no network; so no fixture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from facts import EVENINGS, PROFILES, Evening

import tempo_ess
from tempo_ess import BATTERY_LIFE, DAY, HUB4_MODE, MIN_SOC, RELAYS, SOC, Couleur, Fate, Ledger

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


def hear(ledger: Ledger, values: Values, retained: bool = False) -> None:
    """The GX says these values; None: an empty payload."""
    for setting, value in values.items():
        payload = b"" if value is None else json.dumps({"value": value}).encode()
        ledger.hear(f"N/{SN}/{setting.path}", payload, retained)


def ledger_of(target: Target, values: Values) -> Ledger:
    """A run with this target that has heard these values."""
    ledger = Ledger(SN, target, [DAY, HUB4_MODE])
    hear(ledger, values)
    return ledger


def written(before: Values) -> Ledger:
    """A run for a red day that heard these values, wrote its changes, and heard no more yet."""
    ledger = ledger_of(RED, before)
    for setting in ledger.changes():
        ledger.note_write(setting)
    return ledger


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
        assert ledger_of({BATTERY_LIFE: target}, {BATTERY_LIFE: state}).changes() == due


OWNERS = {"State 9": {BATTERY_LIFE: 9}, "Hub4Mode 3": {HUB4_MODE: 3}}


@pytest.mark.parametrize("choice", OWNERS.values(), ids=OWNERS)
def test_the_owners_choice_is_left_alone_and_the_rest_is_written(choice: Target) -> None:
    ledger = ledger_of(RED, BLUE | choice)
    assert ledger.changes() == [SOC, MIN_SOC]
    assert ledger.fate(BATTERY_LIFE) is Fate.OWNERS_CHOICE


@pytest.mark.parametrize(("held", "told"), [(80, 0), (100, 0), (55, 1)])
def test_only_a_value_that_no_evening_leaves_is_a_strangers(held: int, told: int) -> None:
    """80 % is the blue day's, 100 % this run's own, which a GX can lose again before it saves."""
    blue = tempo_ess.Config().profile(Couleur.BLEU)
    assert len(tempo_ess.somebody_else({SOC: 100}, blue, {SOC: held})) == told


def test_hub4mode_3_protects_battery_life_even_when_it_was_taken_back() -> None:
    ledger = ledger_of(RED, BLUE | {HUB4_MODE: 3})
    hear(ledger, {HUB4_MODE: None})
    with pytest.raises(tempo_ess.Unreachable):
        hear(ledger, {SOC: None})
    hear(ledger, BLUE)
    assert BATTERY_LIFE not in ledger.changes()


def test_battery_life_that_was_written_before_the_owners_choice_is_told_as_it_is() -> None:
    ledger = written(BLUE)
    hear(ledger, {HUB4_MODE: 3})
    assert ledger.fate(BATTERY_LIFE) is Fate.PUBLISHED
    assert not ledger.is_due(BATTERY_LIFE)
    hear(ledger, RED)
    assert ledger.fate(BATTERY_LIFE) is Fate.CONFIRMED


@pytest.mark.parametrize("choice", OWNERS.values(), ids=OWNERS)
def test_an_owners_choice_that_shows_after_the_write_is_no_refusal(choice: Target) -> None:
    ledger = written(BLUE)
    hear(ledger, BLUE | choice)
    assert ledger.fate(BATTERY_LIFE) is Fate.OWNERS_CHOICE
    assert ledger.fate(SOC) is Fate.REFUSED


def test_a_float_equals_its_integer_and_a_silent_setting_is_not_written() -> None:
    ledger = ledger_of({SOC: 100, MIN_SOC: 30}, {MIN_SOC: 30.0})
    assert ledger.changes() == []
    assert ledger.fates() == {SOC: Fate.MUTE, MIN_SOC: Fate.KEPT}


# ---- What is known -------------------------------------------------------------------------------


def shown(ledger: Ledger) -> tuple[list[Any], list[Any]]:
    """The settings that are known, and those that are known to be right."""
    known = [setting for setting in ledger.target if ledger.is_known(setting)]
    return known, [setting for setting in ledger.target if ledger.is_right(setting)]


def test_an_empty_payload_takes_answers_and_confirmations_back() -> None:
    ledger = written(BLUE | {MIN_SOC: 25})
    hear(ledger, RED)
    assert ledger.fates() == dict.fromkeys(RED, Fate.CONFIRMED) | {MIN_SOC: Fate.KEPT}
    with pytest.raises(tempo_ess.Unreachable):
        hear(ledger, {SOC: None})
    assert shown(ledger) == ([], [])
    assert ledger.changes() == [], "never written blindly"
    assert ledger.fate(SOC) is Fate.PUBLISHED


def test_a_retained_value_is_no_answer_but_shows_a_real_gx() -> None:
    ledger = Ledger(SN, RED, [])
    assert not ledger.may_be_there()
    hear(ledger, BLUE, retained=True)
    assert shown(ledger) == ([], [])
    assert ledger.may_be_there()


def test_what_is_not_a_number_is_no_answer() -> None:
    ledger = Ledger(SN, RED, [])
    for value in ("null", '"80"', "true", "[]", "NaN", "-Infinity", "9" * 400, '{"a":' * 9999):
        for payload in (value, f'{{"value":{value}}}', "{"):
            ledger.hear(f"N/{SN}/{SOC.path}", payload.encode(), False)
            assert not ledger.is_known(SOC), payload


def test_a_write_is_right_once_the_target_is_shown_and_not_for_a_late_old_answer() -> None:
    ledger = written(BLUE)
    assert shown(ledger) == ([], [])
    assert ledger.changes() == [], "what is silent is not written"
    hear(ledger, BLUE)
    assert ledger.changes() == list(RED)
    assert shown(ledger)[1] == []
    hear(ledger, RED | {BATTERY_LIFE: 11, MIN_SOC: 30.0})
    assert shown(ledger)[1] == [SOC, BATTERY_LIFE]
    assert ledger.lines() == [
        "Schedule 1 SoC : 80 % -> 100 %, confirmé",
        "MinSoc : 30 % -> 25 %, refusé par le GX, reste à 30 %",
        "BatteryLife : on -> off, confirmé",
    ]


def test_only_a_gx_that_spoke_or_may_be_starting_is_waited_for() -> None:
    ledger = Ledger(SN, RED, [])
    ledger.hear("N/ffffffffffff/system/0/Serial", b'{"value":100}', False)
    ledger.hear(f"N/ffffffffffff/{SOC.path}", b'{"value":100}', False)
    assert ledger.serials == {"ffffffffffff"}
    assert shown(ledger) == ([], [])
    ledger.was_unreachable = True
    assert not ledger.may_be_there(), "gxsn is wrong"
    ledger.hear(f"N/{SN}/{DAY.path}", b"", False)
    assert ledger.may_be_there(), "two of them on this broker"


# ---- The push for a change of colour -------------------------------------------------------------


def notice(fates: Mapping[tempo_ess.Setting, Fate], period: str) -> str | None:
    return tempo_ess.change_notice(tempo("BLEU", "ROUGE", period), config(), fates)


@pytest.mark.parametrize("evening", EVENINGS, ids=lambda one: one.name)
def test_a_push_is_due_for_a_known_change_of_colour_and_only_then(evening: Evening) -> None:
    target = tempo_ess.target_settings(tempo(*evening[:3]), config(), NIGHT)
    fates = dict.fromkeys(target, Fate.CONFIRMED)
    soc, min_soc, battery_life = PROFILES[evening.tomorrow or evening.today]
    rest = f"MinSoc {min_soc} %, BatteryLife {battery_life}"
    expected: str | None = f"Demain {evening.tomorrow}, prêt : charge {soc} %, {rest} (confirmés)"
    if evening.period == "HP":
        expected = f"Demain {evening.tomorrow} : charge {soc} % (confirmée) ; à 22 h {rest}"
    if evening.tomorrow in (None, evening.today):
        expected = None
    assert tempo_ess.change_notice(tempo(*evening[:3]), config(), fates) == expected


def test_a_push_in_hp_is_due_even_when_the_charge_was_there() -> None:
    due = "Demain ROUGE : charge 100 % (confirmée) ; à 22 h MinSoc 25 %, BatteryLife off"
    assert notice({SOC: Fate.KEPT}, "HP") == due


def test_no_push_in_hc_when_nothing_changed_but_the_relay() -> None:
    fates = dict.fromkeys(RED, Fate.KEPT) | {RELAYS[1]: Fate.CONFIRMED}
    assert notice(fates, "HC") is None


@pytest.mark.parametrize(("period", "target"), [("HP", {SOC: 100}), ("HC", RED)])
def test_a_push_never_claims_what_was_not_confirmed(period: str, target: Target) -> None:
    told = str(notice(dict.fromkeys(target, Fate.PUBLISHED), period))
    assert "publié, non confirmé" in told
    assert "prêt" not in told
    assert "confirmée" not in told


def test_the_22_h_push_leaves_out_a_charge_that_was_there_and_the_owners_choice() -> None:
    ledger = written({SOC: 100, MIN_SOC: 30.0, BATTERY_LIFE: 9})
    hear(ledger, {MIN_SOC: 25.0})
    due = "Demain ROUGE, prêt : MinSoc 25 % (confirmés)"
    assert notice(ledger.fates(), "HC") == due
