"""Weeks of evenings, generated with everything that goes wrong in them."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

import gx_simulator as gx
from facts import COLOURS, PROFILES
from house import WEB, House, free_port, http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = {"GX_CONNECT": 0.3, "CONNECT_PAUSE": 0.1, "ANSWER": 0.5, "ASK_AGAIN": 0.1}
QUICK |= {"STARTING": 0.6, "READ_ONLY": 0.5, "ECODEVICE_PAUSE": 0.01}
ON = range(1, 9)  # the States of BatteryLife that mean on


class Run(NamedTuple):
    """The world at one run, at 20:05 or at 22:02."""

    made: bool  # else cron missed it
    announced: bool  # DEMAIN on the meter
    meter: bool  # the EcoDevice answers
    web: str  # the only source of WEB that knows, "" for none
    gx: str  # "up", "dead" or "silent"


class Day(NamedTuple):
    """One TEMPO day: its colour, its two runs, and what the owner does to the GX during it."""

    colour: str
    at_20_05: Run
    at_22_02: Run
    owner: dict[str, int]


RUNS = st.builds(
    Run,
    made=st.sampled_from([True] * 7 + [False]),
    announced=st.sampled_from([True, True, False]),
    meter=st.sampled_from([True] * 5 + [False]),
    web=st.sampled_from(["", "", *WEB]),
    gx=st.sampled_from(["up"] * 15 + ["dead", "silent"]),
)
SETTINGS = st.sampled_from([gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE])
OWNERS = st.dictionaries(SETTINGS, st.sampled_from([1, 2, 3, 8, 9, 10, 12]), max_size=2)
DAYS = st.builds(Day, st.sampled_from(COLOURS), RUNS, RUNS, OWNERS)
DATES = st.dates(date(2026, 9, 1), date(2027, 8, 31))


def evening_run(house: House, now: datetime, day: Day, tomorrow: Day, period: str) -> None:
    """One run, and every promise about it."""
    run = day.at_20_05 if period == "HP" else day.at_22_02
    if not run.made:
        return
    house.meter(day.colour, tomorrow.colour if run.announced else None, period)
    house.eco.reply = house.healthy if run.meter else lambda request: http(500, "down")
    days = {f"d{now:%Y_%m_%d}": day.colour, f"d{now + timedelta(1):%Y_%m_%d}": tomorrow.colour}
    house.internet.knows(**days)
    for source in WEB.keys() - {run.web}:
        setattr(house.internet, WEB[source].attribute, lambda request: http(503, "<html>"))
    house.secret(use_api=True, gxport=free_port() if run.gx == "dead" else house.broker.port)
    house.gx.up = run.gx != "silent"
    house.gx.writes.clear()
    house.internet.server.requests.clear()
    before = dict(house.gx.values)
    result = house.run("--quiet", at=now.isoformat(), limits=QUICK)
    pushes = [push["description"] for push in house.internet.pushes]
    code = {"up": 0, "dead": 4, "silent": 5}[run.gx]
    if not run.meter and not run.web:
        code = 3
    assert result.code == code, result.err
    if code:
        assert house.gx.writes == []
        assert len(pushes) == 1
        assert pushes[0].startswith(f"Échec (code {code})")
        return
    known = bool((run.meter and run.announced) or run.web)
    assert_gx_is_right(house.gx, before, day.colour, tomorrow.colour if known else None, period)
    due = known and tomorrow.colour != day.colour and (period == "HP" or house.gx.writes)
    assert len(pushes) == bool(due)
    assert all(push.startswith(f"Demain {tomorrow.colour}") for push in pushes)


def assert_gx_is_right(
    device: gx.GxSimulator, before: dict[str, int], today: str, tomorrow: str | None, period: str
) -> None:
    """The GX holds the profile; what must not be written was not, and nothing twice."""
    soc, min_soc, battery_life = PROFILES[tomorrow or today]
    written = dict(device.writes)
    assert len(written) == len(device.writes)
    if period == "HP":
        assert written.keys() <= {gx.SOC}
        assert device.values[gx.SOC] == soc
        return
    assert device.values[gx.MIN_SOC] == min_soc
    assert device.values[gx.SOC] == (soc if tomorrow else before[gx.SOC])
    is_on = battery_life == "on"
    owners = before[gx.STATE] == 9 or before[gx.HUB4_MODE] == 3
    if owners or (before[gx.STATE] in ON) == is_on:
        assert gx.STATE not in written
    else:
        assert (device.values[gx.STATE] in ON) == is_on


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=DATES, days=st.lists(DAYS, min_size=2, max_size=12))
def test_every_evening_ends_well_or_says_so(house: House, first: date, days: list[Day]) -> None:
    house.gx.values = dict(gx.BLUE_EVENING)
    for number, (day, tomorrow) in enumerate(itertools.pairwise(days)):
        for period, at in (("HP", time(20, 5)), ("HC", time(22, 2))):
            now = datetime.combine(first + timedelta(number), at)
            evening_run(house, now, day, tomorrow, period)
        house.gx.values |= day.owner
