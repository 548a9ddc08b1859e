"""Run the script with a clock and limits of a test's choosing.

drive.py TIME|now SCALE [its own arguments]

The program is untouched: the clock is main's own parameter, and the limits are its named constants.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tempo_ess

LIMITS = ["ECODEVICE_TRY", "ECODEVICE_PAUSE", "WEB_SOURCE", "PROWL", "GX_WORK", "GX_CONNECT"]
LIMITS += ["CONNECT_TRY", "CONNECT_PAUSE", "STARTING", "ANSWER", "ASK_AGAIN", "READ_ONLY", "CLOSE"]


def scaled(scale: float) -> dict[str, Any]:
    """The limits, each so much shorter."""
    return {name: getattr(tempo_ess, name) * scale for name in LIMITS}


if __name__ == "__main__":
    moment, factor, *arguments = sys.argv[1:]
    for limit, seconds in scaled(float(factor)).items():
        setattr(tempo_ess, limit, seconds)
    if moment == "now":
        raise SystemExit(tempo_ess.main(arguments))
    fixed = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("Europe/Paris"))
    raise SystemExit(tempo_ess.main(arguments, lambda: fixed))
