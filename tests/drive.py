"""Run the script with a clock and limits of a test's choosing: drive.py TIME|now SCALE [its own arguments].

The program is untouched: the clock is main's own parameter, and the limits stand in two tables.
"""

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tempo_ess

moment, scale, *arguments = sys.argv[1:]
for table in (tempo_ess.LIMITS, tempo_ess.PACE):
    for name in table:
        table[name] *= float(scale)
if moment == "now":
    raise SystemExit(tempo_ess.main(arguments))
fixed = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("Europe/Paris"))
raise SystemExit(tempo_ess.main(arguments, lambda: fixed))
