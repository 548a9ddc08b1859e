"""How much a whole 22:02 Bleu -> Rouge evening costs, next to the bare imports.

Three writes, confirmed and pushed, as a subprocess against local peers: 20 runs after a warm-up, in
turn with `import requests, paho.mqtt.client, pyprowl`. Medians; a shared machine is noisy, so
nothing here is a test.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen

from gx_simulator import BLUE_EVENING
from house import House

RUNS = 20
IMPORTS = "import requests, paho.mqtt.client, pyprowl"
WANTED = {"wall, ms": "<= 1.25", "CPU, ms": "<= 1.25", "peak memory, MB": "<= 45"}
Cost = tuple[float, ...]  # as in WANTED; CPU is user and system


def measure(start: Callable[[], Popen[str]]) -> Cost:
    """Start the process, wait for it, and read what it took."""
    began = time.perf_counter()
    process = start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the run failed with {process.returncode}"
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024


def evening(house: House) -> tuple[Cost, int]:
    """One evening, and the messages that the GX got."""
    house.gx.values = dict(BLUE_EVENING)
    house.gx.questions.clear()
    house.gx.writes.clear()
    cost = measure(lambda: house.start(stdout=DEVNULL, stderr=DEVNULL))
    assert house.gx.profile()[:2] == (100, 25.0)
    return cost, len(house.gx.questions) + len(house.gx.writes)


def imports() -> Cost:
    return measure(lambda: Popen([sys.executable, "-B", "-c", IMPORTS], text=True))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, closing(House(Path(folder))) as house:
        house.meter("BLEU", "ROUGE", "HC")
        evening(house), imports()
        pairs = [(evening(house), imports()) for _ in range(RUNS)]
        house.gx.questions.clear()
        assert house.run().code == 0
    print(f"{'':24}{'evening':>10}{'imports':>10}{'ratio':>8}{'wanted':>9}")
    for place, (name, wanted) in enumerate(WANTED.items()):
        ours = median(cost[place] for (cost, _), _ in pairs)
        base = median(cost[place] for _, cost in pairs)
        print(f"{name:24}{ours:10.1f}{base:10.1f}{ours / base:8.2f}{wanted:>9}")
    messages = max(count for (_, count), _ in pairs)
    print(f"{'messages, 3 changes':24}{messages:10}{'':18}{'<= 11':>9}")
    print(f"{'messages, no change':24}{len(house.gx.questions):10}{'':18}{'<= 5':>9}")


if __name__ == "__main__":
    main()
