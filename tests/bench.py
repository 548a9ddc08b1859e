"""How much a whole 22:02 Bleu -> Rouge evening costs, next to the bare imports.

Three writes, confirmed and pushed, as a subprocess against local peers: 20 runs after a warm-up, in
turn with `import requests, paho.mqtt.client, pyprowl`. Medians; a shared machine is noisy, so
nothing here is a test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gx_simulator import BLUE_EVENING
from house import House

RUNS = 20
IMPORTS = "import requests, paho.mqtt.client, pyprowl"


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds, user and system
    memory: float  # MB, at its peak


def measure(process: subprocess.Popen[str], began: float) -> Cost:
    """Wait for the process, and read what it took."""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the run failed with {process.returncode}"
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def evening(house: House) -> tuple[Cost, int]:
    """One evening, and the messages that the GX got."""
    house.gx.values = dict(BLUE_EVENING)
    house.gx.questions.clear()
    house.gx.writes.clear()
    began = time.perf_counter()
    cost = measure(house.start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), began)
    assert house.gx.profile()[:2] == (100, 25.0)
    return cost, len(house.gx.questions) + len(house.gx.writes)


def imports() -> Cost:
    began = time.perf_counter()
    return measure(subprocess.Popen([sys.executable, "-B", "-c", IMPORTS], text=True), began)


def idle_messages(house: House) -> int:
    """The messages that the GX gets when nothing is to be changed."""
    house.gx.questions.clear()
    assert house.run().code == 0
    return len(house.gx.questions)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.secret()
        house.meter("BLEU", "ROUGE", "HC")
        evening(house), imports()
        pairs = [(evening(house), imports()) for _ in range(RUNS)]
        messages, idle = max(count for (_, count), _ in pairs), idle_messages(house)
        house.close()
    run = Cost(*(median(values) for values in zip(*(cost for (cost, _), _ in pairs), strict=True)))
    bare = Cost(*(median(values) for values in zip(*(cost for _, cost in pairs), strict=True)))
    print(f"{'':24}{'evening':>10}{'imports':>10}{'ratio':>8}{'wanted':>9}")
    for name, ours, base in (("wall", run.wall, bare.wall), ("CPU", run.cpu, bare.cpu)):
        times = f"{ours * 1000:10.0f}{base * 1000:10.0f}{ours / base:8.2f}"
        print(f"{name + ', ms':24}{times}{'<= 1.25':>9}")
    print(f"{'peak memory, MB':24}{run.memory:10.1f}{bare.memory:10.1f}{'':8}{'<= 45':>9}")
    print(f"{'messages, 3 changes':24}{messages:10}{'':18}{'<= 11':>9}")
    print(f"{'messages, no change':24}{idle:10}{'':18}{'<= 5':>9}")


if __name__ == "__main__":
    main()
