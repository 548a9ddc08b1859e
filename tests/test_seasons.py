"""Weeks of evenings, generated with everything that goes wrong in them."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

import gx_simulator as gx
from facts import COLOURS, PROFILES
from house import WEB, House, Peer, free_port, http
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from test_faults import stall

QUICK = {"CONNECT_TRY": 0.3, "CONNECT_PAUSE": 0.1, "ANSWER": 0.5, "ASK_AGAIN": 0.1}
QUICK |= {"STARTING": 0.6, "AFTER_STALL": 0.1, "READ_ONLY_WAIT": 0.5, "ECODEVICE_PAUSE": 0.01}
ON = range(1, 9)  # the States of BatteryLife that mean on
CODES = {"up": 0, "stalled": 0, "dead": 4, "silent": 5}


class Run(NamedTuple):
    """The world at one run, at 20:05 or at 22:02."""

    made: bool  # else cron missed it
    meter: str  # "right", "down", or the PTEC at which it froze, with BLEU as DEMAIN
    announced: bool  # DEMAIN on a meter that is right
    web: str  # the only source of WEB that knows, "" for none
    gx: str  # "up", "stalled" just after it let us in, "dead" or "silent"
    open: bool  # the GX's own word on its charging window, at 22:02


class Day(NamedTuple):
    """One TEMPO day: its colour, its two runs, and what the owner does to the GX during it."""

    colour: str
    at_20_05: Run
    at_22_02: Run
    owner: dict[str, int]


class Known(NamedTuple):
    """What a run reads; today is None when nobody tells, tomorrow while it is unknown."""

    today: str | None
    tomorrow: str | None
    period: str


RUNS = st.builds(
    Run,
    made=st.sampled_from([True] * 7 + [False]),
    meter=st.sampled_from(["right"] * 9 + ["down", "HCJB", "HPJB"]),
    announced=st.sampled_from([True, True, False]),
    web=st.sampled_from(["", *WEB, *WEB]),
    gx=st.sampled_from(["up"] * 20 + ["stalled", "dead", "silent"]),
    open=st.sampled_from([True] * 8 + [False]),
)
SETTINGS = st.sampled_from([gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE])
OWNERS = st.dictionaries(SETTINGS, st.sampled_from([1, 2, 3, 8, 9, 10, 12]), max_size=1)
DAYS = st.builds(Day, st.sampled_from(COLOURS), RUNS, RUNS, OWNERS)
DATES = st.dates(date(2026, 9, 1), date(2027, 8, 31))


def known(run: Run, day: Day, tomorrow: Day, period: str) -> Known:
    """What a run can know: the meter's word for today, the dearer of two for tomorrow."""
    told = tomorrow.colour if run.web else None  # by the web
    if run.meter == "right":
        witnesses = [tomorrow.colour if run.announced else None, told]
        today: str | None = day.colour
    elif run.meter == "down" or (run.meter == "HCJB" and period == "HP"):
        witnesses = [told]
        today = day.colour if run.web else None
    else:
        witnesses = ["BLEU", told]
        today, period = "BLEU", run.meter[:2]
    named = [colour for colour in witnesses if colour]
    return Known(today, max(named, key=COLOURS.index) if named else None, period)


def prepare(house: House, run: Run, day: Day, tomorrow: Day, now: datetime) -> None:
    """The house as it is at this run."""
    house.meter(day.colour, tomorrow.colour if run.announced else None, clock(now))
    if run.meter not in ("right", "down"):
        house.answers |= {"T1_PTEC": run.meter, "T1_DEMAIN": "BLEU"}
    house.eco.reply = lambda request: http(500, "down")
    if run.meter != "down":
        house.eco.reply = house.healthy
    days = {f"d{now:%Y_%m_%d}": day.colour, f"d{now + timedelta(1):%Y_%m_%d}": tomorrow.colour}
    house.internet.knows(**days)
    for source in WEB.keys() - {run.web}:
        setattr(house.internet, WEB[source].attribute, lambda request: http(503, "<html>"))
    port = house.broker.port
    if run.gx == "dead":
        port = free_port()
    if run.gx == "stalled":
        port = Peer(stall(house.broker.port, before_suback=run.open, ends=True)).port
    house.secret(use_api=True, gxport=port)
    house.gx.up = run.gx != "silent"
    house.gx.values[gx.CHARGE] = int(run.open)
    house.gx.writes.clear()
    house.internet.server.requests.clear()


def clock(now: datetime) -> str:
    """The period by the clock."""
    return "HP" if now.hour < 22 else "HC"


def evening_run(house: House, now: datetime, day: Day, tomorrow: Day) -> list[str]:
    """One run, and every promise about it; its pushes."""
    run = day.at_20_05 if clock(now) == "HP" else day.at_22_02
    if not run.made:
        return []
    prepare(house, run, day, tomorrow, now)
    read = known(run, day, tomorrow, clock(now))
    before = dict(house.gx.values)
    limits = QUICK | ({"GX_WORK": 0.6} if run.gx == "dead" else {})
    result = house.run("--quiet", at=now.isoformat(), limits=limits)
    pushes = [push["description"] for push in house.internet.pushes]
    assert result.code == (CODES[run.gx] if read.today else 3), result.err
    for line in result.err.splitlines():
        assert line in pushes[0]
    if result.code:
        assert house.gx.writes == []
        assert "erreur" in pushes[0]
        return pushes
    assert_gx_is_right(house.gx, before, read)
    is_change = read.tomorrow not in (None, read.today)
    is_news = is_change and (read.period == "HP" or bool(house.gx.writes))
    assert len(pushes) == (is_news or bool(result.err))
    assert is_news == any(push.startswith(f"Demain {read.tomorrow}") for push in pushes)
    return pushes


def assert_gx_is_right(device: gx.GxSimulator, before: dict[str, int], read: Known) -> None:
    """The GX holds the profile; what must not be written was not, and nothing twice."""
    soc, min_soc, battery_life = PROFILES[read.tomorrow or read.today or ""]
    written = dict(device.writes)
    assert len(written) == len(device.writes)
    if read.period == "HP":
        assert written.keys() <= {gx.SOC}
        assert device.values[gx.SOC] == soc
        return
    assert device.values[gx.MIN_SOC] == min_soc
    assert device.values[gx.SOC] == (soc if read.tomorrow else before[gx.SOC])
    is_on = battery_life == "on"
    owners = before[gx.STATE] == 9 or before[gx.HUB4_MODE] == 3
    if owners or (before[gx.STATE] in ON) == is_on:
        assert gx.STATE not in written
    else:
        assert (device.values[gx.STATE] in ON) == is_on


def is_ready(device: gx.GxSimulator) -> bool:
    """Whether the battery will carry the house through a red day, as far as the owner lets it."""
    owners = device.values[gx.STATE] == 9 or device.values[gx.HUB4_MODE] == 3
    is_off = device.values[gx.STATE] in range(10, 13)
    is_set = device.profile()[:2] == (100, 25) and (is_off or owners)
    return is_set and (device.values[gx.CHARGE] == 1 or owners)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink would take minutes
)
@given(first=DATES, days=st.lists(DAYS, min_size=2, max_size=10))
def test_every_evening_ends_well_or_says_so(house: House, first: date, days: list[Day]) -> None:
    """And none before a red day, whose two runs were made, ends unready without a word."""
    house.gx.values = dict(gx.BLUE_EVENING)
    for number, (day, tomorrow) in enumerate(itertools.pairwise(days)):
        pushes = []
        for at in (time(20, 5), time(22, 2)):
            now = datetime.combine(first + timedelta(number), at)
            pushes += evening_run(house, now, day, tomorrow)
        if tomorrow.colour == "ROUGE" and day.at_20_05.made and day.at_22_02.made:
            worded = any("attention" in push or "erreur" in push for push in pushes)
            event(f"before a red day: ready {is_ready(house.gx)}, told {worded}")
            assert is_ready(house.gx) or worded
        house.gx.values |= day.owner
