"""Play the evening before a red day: 20:05, then 22:02, with the script itself, for an owner.

Only the clock is given, since an evening is wanted at any hour. With --mqtt all messages are shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from gx_simulator import MIN_SOC, SOC, STATE
from house import House

EVERYTHING = "--mqtt" in sys.argv[1:]
INTRODUCTION = """\
Une soirée simulée sur cette machine : un EcoDevice, RTE, un GX et Prowl.
Rien n'est lu ni écrit ailleurs.

R/ : le script demande une valeur ; N/ : le GX répond ; W/ : le script écrit."""


def emphasis(text: str, colour: int) -> str:
    """The text in this colour, on a terminal only."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[1;{colour}m{text}\x1b[0m"


def state(house: House) -> str:
    """The GX's three settings, as on its own screen."""
    values = house.gx.values
    life = "on" if values[STATE] < 9 else "off"
    return f"Schedule 1 SoC {values[SOC]} %, MinSoc {values[MIN_SOC]:g} %, BatteryLife {life}"


def play(house: House, time: str, period: str, words: str) -> None:
    """One run of the script, and what it did: its writes, and questions and answers or how many."""
    house.meter("BLEU", "ROUGE", period)
    house.internet.knows(d2026_11_23="BLEU", d2026_11_24="ROUGE")
    pushes, messages = len(house.internet.pushes), len(house.watch().seen())
    heading = f"===== {time}, {words} : le compteur dit aujourd'hui BLEU, demain ROUGE ====="
    print(f"\n{emphasis(heading, 36)}\n\nLe GX avant : {state(house)}\n\n$ tempo_ess.py")
    result = house.run(at=f"2026-11-23T{time}")
    print(f"{result.text}(code de sortie {result.code})\n\nLes messages MQTT :")
    kinds = []
    for topic, payload, _ in house.watch().seen()[messages:]:
        kinds.append(topic[:2])
        if topic.startswith("W/"):
            print("  " + emphasis(f"{topic} {payload}", 33))
        elif EVERYTHING:
            print(f"  {topic} {payload}")
    if not EVERYTHING:
        print(f"  et {kinds.count('R/')} questions R/, {kinds.count('N/')} réponses N/")
    for push in house.internet.pushes[pushes:]:
        print(f"\nLa notification Prowl, priorité {push['priority']} :")
        lines = [push["event"], *push["description"].splitlines()]
        print("\n".join(f"  {line}" for line in lines))
    print(f"\nLe GX après : {state(house)}")


def main() -> None:
    """The whole evening, in a few seconds."""
    with tempfile.TemporaryDirectory() as folder, closing(House(Path(folder))) as house:
        house.names["use_api"] = True
        print(INTRODUCTION)
        if not EVERYTHING:
            print("Tous les messages : sh tests/demo.sh --mqtt")
        play(house, "20:05", "HP", "heures pleines")
        play(house, "22:02", "HC", "heures creuses")
        charge, min_soc, _ = house.gx.profile()
    closing_words = (
        f"Demain rouge : cette nuit la batterie se charge à {charge} %, et demain de 6 h à 22 h"
        f" la maison vit sur elle, jusqu'à {min_soc:g} %."
    )
    print("\n" + emphasis(closing_words, 31))


if __name__ == "__main__":
    main()
