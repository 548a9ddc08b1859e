"""How much a whole Bleu -> Rouge evening costs, next to the script's start and the bare imports.

bench.py [another version's tempo_ess.py, to be measured beside this one]

Colours from the meter and RTE, three writes confirmed and pushed, as a subprocess against local
peers: 20 runs after a warm-up, in turn with `--version` and `import requests, paho.mqtt.client,
pyprowl`. Medians; a shared machine is noisy, so nothing here is a test. --period HC is given, since
the real clock is the run's own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen

from gx_simulator import BLUE_EVENING
from house import PARIS, SCRIPT, House

RUNS = 20
IMPORTS = ["-c", "import requests, paho.mqtt.client, pyprowl"]
UNITS = ["wall, ms", "CPU, ms", "peak memory, MB"]  # CPU is user and system
Cost = tuple[float, ...]  # as in UNITS


def measure(arguments: list[str], environment: dict[str, str]) -> Cost:
    """Start Python, wait for it, and read what it took."""
    began = time.perf_counter()
    command = [sys.executable, "-B", *arguments]
    process = Popen(command, env=environment, stdout=DEVNULL, stderr=DEVNULL, text=True)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} failed with {process.returncode}"
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024


def evening(house: House, script: str) -> tuple[Cost, int]:
    """One evening, and the messages that the GX got."""
    house.gx.values = dict(BLUE_EVENING)
    return run(house, script)


def run(house: House, script: str) -> tuple[Cost, int]:
    """One run on the GX as it is, and the messages that it got."""
    house.gx.questions.clear()
    house.gx.writes.clear()
    cost = measure([script, *house.config, "--period", "HC"], house.environment)
    assert house.gx.profile()[:2] == (100, 25.0)
    return cost, len(house.gx.questions) + len(house.gx.writes)


def row(name: str, costs: list[Cost], base: list[Cost]) -> str:
    """The medians, and how many times the base's they are."""
    cells = []
    for place in range(len(UNITS)):
        ours, bases = (median(cost[place] for cost in one) for one in (costs, base))
        cells.append(f"{ours:12.1f}{ours / bases:8.2f}")
    return f"{name:36}" + "".join(cells)


def main() -> None:
    scripts = [str(SCRIPT), *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder, closing(House(Path(folder))) as house:
        house.meter("BLEU", "ROUGE", "HP")
        now = datetime.now(PARIS)
        house.internet.knows(**{f"d{now:%Y_%m_%d}": "BLEU"})
        house.secret(use_api=True)
        costs: dict[str, list[Cost]] = {"the bare imports": []}
        messages = {}
        for number in range(RUNS + 1):
            rows = {"the bare imports": measure(IMPORTS, house.environment)}
            for script in scripts:
                rows[f"{script[-20:]} --version"] = measure(
                    [script, "--version"], house.environment
                )
                rows[f"{script[-20:]}, an evening"], changing = evening(house, script)
                messages[script] = changing, run(house, script)[1]
            for name, cost in rows.items() if number else ():  # the first is the warm-up
                costs.setdefault(name, []).append(cost)
    print(f"{'':36}" + "".join(f"{unit:>16}{'':4}" for unit in UNITS))
    for name, ours in costs.items():
        print(row(name, ours, costs["the bare imports"]))
    for script in scripts:
        start, whole = costs[f"{script[-20:]} --version"], costs[f"{script[-20:]}, an evening"]
        print(row(f"{script[-20:]}, evening to start", whole, start))
        print(f"{'':36}messages with 3 changes, with none: {messages[script]}")


if __name__ == "__main__":
    main()
