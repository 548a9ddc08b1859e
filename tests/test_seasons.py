"""Years of evenings: generated seasons with everything that goes wrong in them.

The program runs in this process, for the number of evenings, on the same real peers: its main, its
own clock parameter, its own limits, a real mosquitto and real HTTP.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import socket
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple
from unittest import mock

import gx_simulator as gx
import pytest
from facts import PROFILES
from house import PARIS, House, Peer, http
from hypothesis import given, settings
from hypothesis import strategies as st
from test_faults import say, way

import tempo_ess

QUICK: dict[str, Any] = {
    "GX_CONNECT": 0.3,
    "STARTING": 0.6,
    "ECODEVICE_PAUSE": 0.01,
    "CONNECT_PAUSE": 0.1,
}
QUICK |= {"ANSWER": 0.5, "ASK_AGAIN": 0.1, "READ_ONLY": 0.5}


class Run(NamedTuple):
    """The world at one run, at 20:05 or at 22:02."""

    made: bool  # else cron missed it
    announced: bool  # DEMAIN on the meter
    meter: bool  # the EcoDevice answers
    web: str  # the only source that knows: "rte", "edf", "api" or "" for none
    reached: str  # "yes", or what the GX does instead
    away: int  # the settings service goes away at this R/ and comes back two R/ later; 0: it stays


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
    web=st.sampled_from(["", "", "rte", "rte", "edf", "api"]),
    reached=st.sampled_from(["yes"] * 12 + ["starting"] * 3 + ["dead", "silent"]),
    away=st.sampled_from([0] * 5 + [1, 2, 3, 4, 5, 6, 7, 8]),
)
SETTINGS = st.sampled_from([gx.SOC, gx.MIN_SOC, gx.STATE, gx.HUB4_MODE])
OWNER = st.dictionaries(SETTINGS, st.sampled_from([1, 2, 3, 8, 9, 10, 12]), max_size=2)


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
    house = House(tmp_path_factory.mktemp("years"))
    house.names["use_api"] = True
    open_way = way(house.broker.port, "nothing is cut")

    def refuse_first(link: socket.socket, earlier: int) -> None:
        """A GX that is starting refuses the right password, then takes it."""
        (open_way if earlier % 2 else say(b"\x20\x02\x00\x05"))(link, earlier)

    starting = Peer(refuse_first)
    dead = socket.socket()  # bound, so that nobody else takes the port, and listening to nobody
    dead.bind(("127.0.0.1", 0))
    for name, port in (("dead", dead.getsockname()[1]), ("starting", starting.port)):
        house.secret(gxport=port).rename(house.folder / f"{name}.py")
    house.secret()
    with (
        mock.patch.dict(os.environ, house.internet.environment),
        mock.patch.multiple(tempo_ess, **QUICK),
    ):
        yield house
    for peer in (starting, dead, house):
        peer.close()


def mode(state: float) -> str:
    return "on" if 1 <= state <= 8 else "off" if 10 <= state <= 12 else "keep"


def outage(device: gx.GxSimulator, at: int) -> None:
    """The settings service goes away at this question (0: at none), and is back two later."""
    asked = itertools.count(1)

    def count(_path: str) -> None:
        number = next(asked)
        if number == at:
            device.settings_down()
        elif at and number == at + 2:
            device.up = True

    device.on_question = count


def somebody_else(
    before: dict[str, float], today: str, tomorrow: str | None, period: str, owners: bool
) -> set[str]:
    """The settings that this run writes and that another hand changed."""
    labels = ("Schedule 1 SoC", "MinSoc", "BatteryLife")
    held = (before[gx.SOC], before[gx.MIN_SOC], mode(before[gx.STATE]))
    expected = zip(labels, held, PROFILES[today], PROFILES[tomorrow or today], strict=True)
    changed = {label for label, value, *fine in expected if value not in fine}
    if period == "HP":
        return changed & {"Schedule 1 SoC"}
    if tomorrow is None:
        changed.discard("Schedule 1 SoC")
    if owners:
        changed.discard("BatteryLife")
    return changed


def evening_run(house: House, day: Day, tomorrow: Day, run: Run, at: time, period: str) -> None:
    """One run, and every promise about it."""
    device = house.gx
    house.meter(day.colour, tomorrow.colour if run.announced else None, period)
    house.eco.reply = house.healthy if run.meter else lambda request: http(500, "down")
    house.internet.knows(**{f"d{one.date}": one.colour for one in (day, tomorrow)})
    for source in {"rte", "edf", "api"} - {run.web}:
        setattr(house.internet, source, lambda request: http(503, "<html>"))
    device.up = run.reached != "silent"
    device._unsaved.clear()  # the last run was hours ago
    device.writes.clear()
    away = run.away if run.reached == "yes" else 0
    outage(device, away)
    house.internet.server.requests.clear()
    before = dict(device.values)
    file = run.reached if run.reached in ("dead", "starting") else "secret"
    secret = house.folder / f"{file}.py"
    now = datetime.combine(day.date, at, PARIS)
    with redirect_stderr(io.StringIO()) as err:
        code = tempo_ess.main(["--quiet", "--config", str(secret)], lambda: now)
    changed_by = set(re.findall("(?m)^attention : (.+?) était à ", err.getvalue()))
    pushes = [push["description"] for push in house.internet.pushes]
    if not run.meter and not run.web:
        assert (code, device.writes) == (3, [])
    elif run.reached in ("dead", "silent"):
        assert (code, device.writes) == (4 if run.reached == "dead" else 5, [])
    else:
        known = bool((run.meter and run.announced) or run.web)
        assert code == 0, err.getvalue()
        owners = before[gx.STATE] == 9 or (before[gx.HUB4_MODE] == 3 and period == "HC")
        told = tomorrow.colour if known else None
        assert changed_by == somebody_else(before, day.colour, told, period, owners)
        assert_gx_is_right(device, before, day.colour, told, period, owners)
        if not away:
            written = [path for path, _ in device.writes]
            assert len(written) == len(set(written)), "nothing is written twice when all is well"
        changed = {path for path, _ in device.writes} & {gx.SOC, gx.MIN_SOC, gx.STATE}
        due = known and tomorrow.colour != day.colour and (period == "HP" or changed)
        assert len(pushes) == bool(due)
        assert all(push.startswith(f"Demain {tomorrow.colour}") for push in pushes)
        return
    assert changed_by == set()
    assert len(pushes) == 1
    assert pushes[0].startswith(f"Échec (code {code})")


def assert_gx_is_right(
    device: gx.GxSimulator,
    before: dict[str, float],
    today: str,
    tomorrow: str | None,
    period: str,
    owners: bool,
) -> None:
    """The GX holds the profile; what must not be written was not."""
    soc, min_soc, life = PROFILES[tomorrow or today]
    written = dict(device.writes)
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


@settings(max_examples=25, deadline=None)
@given(season=seasons())
def test_every_evening_of_a_season_ends_well_or_says_so(years: House, season: list[Day]) -> None:
    years.gx.values = dict(gx.BLUE_EVENING)
    for day, tomorrow in itertools.pairwise(season):
        if day.at_20_05.made:
            evening_run(years, day, tomorrow, day.at_20_05, time(20, 5), "HP")
        if day.at_22_02.made:
            evening_run(years, day, tomorrow, day.at_22_02, time(22, 2), "HC")
        years.gx.values |= day.owner
