"""The table of facts that drives both the pure tests and the end-to-end ones."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

# colour of tomorrow: schedule 1 SoC, MinSoc, BatteryLife
PROFILES = {"BLEU": (80, 30, "on"), "BLANC": (90, 30, "on"), "ROUGE": (100, 25, "off")}
COLOURS = tuple(PROFILES)


class Evening(NamedTuple):
    """What a run reads, and what the GX is to hold after it; None is "left as it was"."""

    today: str
    tomorrow: str | None
    period: str
    soc: int | None
    min_soc: int | None
    battery_life: str | None

    @property
    def name(self) -> str:
        """Like bleu->rouge HC."""
        return f"{self.today}->{self.tomorrow or 'inconnu'}".lower() + f" {self.period}"


def evening(today: str, tomorrow: str | None, period: str) -> Evening:
    """HP: the charge alone. HC: all three, but the charge only for a known tomorrow."""
    soc, min_soc, battery_life = PROFILES[tomorrow or today]  # today's while it is unknown
    if period == "HP":
        return Evening(today, tomorrow, period, soc, None, None)
    return Evening(today, tomorrow, period, soc if tomorrow else None, min_soc, battery_life)


EVENINGS = [evening(*read) for read in product(COLOURS, (*COLOURS, None), ("HP", "HC"))]
