"""Years of evenings: generated seasons with everything that goes wrong between September and August.

The program runs in this process, for the number of evenings, on the same real peers: its main, its own clock
parameter, its own limits table, a real mosquitto and real HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import gx_simulator as gx
import pytest
from facts import PROFILES
from house import House, free_port, http, rte_body
from hypothesis import given, settings
from hypothesis import strategies as st

import tempo_ess

PARIS = ZoneInfo("Europe/Paris")
SHORT = {"connect": 0.3, "read": 0.6}
QUICK = {"EcoDevice pause": 0.01, "connect pause": 0.1, "answer": 0.5, "ask again": 0.25, "read only": 0.5}


class Run(NamedTuple):
    """The world at one run, at 20:05 or at 22:02."""

    made: bool  # else cron missed it
    announced: bool  # DEMAIN on the meter
    meter: bool  # the EcoDevice answers
    web: bool
    reached: str  # "yes", or what the GX does instead


class Day(NamedTuple):
    """One TEMPO day: its colour, its two runs, and what the owner does to the GX during it."""

    date: date
    colour: str
    at_20_05: Run
    at_22_02: Run
    owner: dict[str, int]


RUNS = st.builds(
    Run,
    made=st.sampled_from([True] * 7 + [False]),
    announced=st.sampled_from([True, True, False]),
    meter=st.sampled_from([True] * 5 + [False]),
    web=st.booleans(),
    reached=st.sampled_from(["yes"] * 8 + ["dead", "silent"]),
)
OWNER = st.dictionaries(
    st.sampled_from([gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE]), st.sampled_from([1, 2, 3, 8, 9, 10, 12]), max_size=2
)


@st.composite
def seasons(draw: st.DrawFn) -> list[Day]:
    """Some days of a season that obeys TEMPO's rules.

    Red from November to March, Monday to Friday, at most five in a row; white never on a Sunday.
    """
    first = date(2026, 9, 1) + timedelta(days=draw(st.integers(0, 340)))
    days: list[Day] = []
    for number in range(draw(st.integers(2, 12))):
        day = first + timedelta(days=number)
        colours = ["BLEU"] + ["BLANC"] * (day.weekday() != 6)
        cold = day.month in (11, 12, 1, 2, 3) and day.weekday() < 5
        colours += ["ROUGE"] * (cold and [one.colour for one in days[-5:]] != ["ROUGE"] * 5)
        days.append(Day(day, draw(st.sampled_from(colours)), draw(RUNS), draw(RUNS), draw(OWNER)))
    return days


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("years")
    house = House(folder)
    house.names["use_api"] = True
    text = house.secret(gxport=free_port()).read_text()
    (folder / "dead.py").write_text(text)
    (folder / "dead.py").chmod(0o600)
    house.secret()
    patch = pytest.MonkeyPatch()
    for name, value in house.internet.environment.items():
        patch.setenv(name, value)
    for table, short in ((tempo_ess.LIMITS, SHORT), (tempo_ess.PACE, QUICK)):
        for name, seconds in short.items():
            patch.setitem(table, name, seconds)
    yield house
    patch.undo()
    house.close()


def mode(state: float) -> str:
    return "on" if 1 <= state <= 8 else "off" if 10 <= state <= 12 else "keep"


def evening_run(house: House, day: Day, tomorrow: Day, run: Run, at: time, period: str) -> None:
    """One run, and every promise about it."""
    device = house.gx
    assert device
    house.meter(day.colour, tomorrow.colour if run.announced else None, period)
    house.eco.reply = house.healthy if run.meter else lambda request: http(500, "down")
    colours = {str(one.date): one.colour for one in (day, tomorrow)}
    house.internet.rte = lambda request: http(200, rte_body(colours)) if run.web else http(503, "<html>")
    device.up = run.reached != "silent"
    device.writes.clear()
    house.internet.server.requests.clear()
    before = dict(device.values)
    secret = house.folder / ("dead.py" if run.reached == "dead" else "secret.py")
    now = datetime.combine(day.date, at, PARIS)
    code = tempo_ess.main(["--quiet", "--config", str(secret)], lambda: now)

    pushes = [push["description"] for push in house.internet.pushes]
    if not run.meter and not run.web:
        assert (code, device.writes) == (3, [])
    elif run.reached != "yes":
        assert (code, device.writes) == (4 if run.reached == "dead" else 5, [])
    else:
        known = (run.meter and run.announced) or run.web
        assert code == 0
        owners = before[gx.STATE] == 9 or (before[gx.HUB4_MODE] == 3 and period == "HC")
        assert_gx_is_right(device, before, day.colour, tomorrow.colour if known else None, period, owners)
        changed = {path for path, _ in device.writes} & {gx.SOC, gx.MIN_SOC, gx.STATE}
        due = known and tomorrow.colour != day.colour and (period == "HP" or changed)
        assert len(pushes) == bool(due)
        assert all(push.startswith(f"Demain {tomorrow.colour}") for push in pushes)
        return
    assert len(pushes) == 1
    assert pushes[0].startswith(f"Échec (code {code})")


def assert_gx_is_right(
    device: gx.GxSimulator, before: dict[str, float], today: str, tomorrow: str | None, period: str, owners: bool
) -> None:
    """The GX holds the profile; what must not be written was not."""
    soc, min_soc, life = PROFILES[tomorrow or today]
    written = dict(device.writes)
    assert len(written) == len(device.writes), "nothing is written twice when all is well"
    if period == "HP":
        assert written.keys() <= {gx.SOC}
        assert device.values[gx.SOC] == soc
        return
    assert device.values[gx.MIN_SOC] == min_soc
    assert device.values[gx.SOC] == (soc if tomorrow else before[gx.SOC])
    if owners or mode(before[gx.STATE]) == life:
        assert gx.STATE not in written
    if not owners:
        assert mode(device.values[gx.STATE]) == life


@settings(max_examples=40, deadline=None)
@given(season=seasons())
def test_every_evening_of_a_season_ends_well_or_says_so(years: House, season: list[Day]) -> None:
    assert years.gx
    years.gx.values = dict(gx.BLUE_EVENING)
    for day, tomorrow in pairwise(season):
        for run, at, period in ((day.at_20_05, time(20, 5), "HP"), (day.at_22_02, time(22, 2), "HC")):
            if run.made:
                evening_run(years, day, tomorrow, run, at, period)
        years.gx.values |= day.owner
