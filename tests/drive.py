"""Run the script with a clock and limits of a test's choosing.

drive.py TIME SCALE [its own arguments]

The program is untouched: the clock is main's own parameter, and the limits are its named constants.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tempo_ess

SCALED = ["GX_WORK", "CONNECT_TRY", "CONNECT_PAUSE", "STARTING", "ANSWER", "ASK_AGAIN"]
SCALED += ["AFTER_STALL", "READ_ONLY_WAIT", "ECODEVICE_PAUSE"]
# A peer that answers on a busy machine needs that long.
AT_LEAST_1_S = ["ECODEVICE_TRY", "WEB_TIMEOUT", "PROWL_TIMEOUT"]


def drive(arguments: list[str], at: str, scale: float, limits: dict[str, float]) -> int:
    """The script's main at this Paris time (or now), with its limits scaled, but for these."""
    scaled: dict[str, Any] = {name: getattr(tempo_ess, name) * scale for name in SCALED}
    scaled |= {name: max(1, getattr(tempo_ess, name) * scale) for name in AT_LEAST_1_S}
    with mock.patch.multiple(tempo_ess, **(scaled | limits)):
        if not at:
            return tempo_ess.main(arguments)
        fixed = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo("Europe/Paris"))
        return tempo_ess.main(arguments, lambda: fixed)


if __name__ == "__main__":
    raise SystemExit(drive(sys.argv[3:], sys.argv[1], float(sys.argv[2]), {}))
