"""Play the evening before a red day: 20:05, then 22:02, with the script itself, for an owner.

Only the clock is given, since an evening is wanted at any hour. With --mqtt all messages are shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from gx_simulator import MIN_SOC, SOC, STATE
from house import House, Message

MOMENTS = (("20:05", "HP", "heures pleines"), ("22:02", "HC", "heures creuses"))
LEGEND = "R/ : le script demande une valeur ; N/ : le GX répond ; W/ : le script écrit."


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


def show_messages(messages: list[Message], everything: bool) -> None:
    """The writes in full; questions and answers too, or else their number."""
    for message in messages:
        line = f"{message.topic} {message.payload}"
        if line.startswith("W/"):
            print("  " + emphasis(line, 33))
        elif everything:
            print("  " + line)
    if not everything:
        kinds = [message.topic[:2] for message in messages]
        print(f"  et {kinds.count('R/')} questions R/, {kinds.count('N/')} réponses N/")


def play(house: House, moment: tuple[str, str, str], everything: bool) -> None:
    """One run of the script, and what it did."""
    time, period, words = moment
    house.meter("BLEU", "ROUGE", period)
    pushes, messages = len(house.internet.pushes), len(house.watch().seen())
    heading = f"===== {time}, {words} : le compteur dit aujourd'hui BLEU, demain ROUGE ====="
    print("\n" + emphasis(heading, 36))
    print(f"\nLe GX avant : {state(house)}\n")
    print("$ tempo_ess.py")
    result = house.run(at=f"2026-11-23T{time}")
    print(result.text + f"(code de sortie {result.code})")
    print("\nLes messages MQTT :")
    show_messages(house.watch().seen()[messages:], everything)
    for push in house.internet.pushes[pushes:]:
        print(f"\nLa notification Prowl, priorité {push['priority']} :")
        print(f"  {push['event']} - {push['description']}")
    print(f"\nLe GX après : {state(house)}")


def closing(house: House) -> str:
    """What the evening means to an owner."""
    charge, min_soc = house.gx.values[SOC], house.gx.values[MIN_SOC]
    return (
        f"Demain rouge : cette nuit la batterie se charge à {charge} %, et demain de 6 h à 22 h"
        f" la maison vit sur elle, jusqu'à {min_soc:g} %."
    )


def main() -> None:
    """The whole evening, in a few seconds."""
    everything = "--mqtt" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.secret()
        try:
            print("Une soirée simulée sur cette machine : un EcoDevice, un GX et Prowl.")
            print("Rien n'est lu ni écrit ailleurs.")
            print(f"\n{LEGEND}")
            if not everything:
                print("Tous les messages : sh tests/demo.sh --mqtt")
            for moment in MOMENTS:
                play(house, moment, everything)
            print("\n" + emphasis(closing(house), 31))
        finally:
            house.close()


if __name__ == "__main__":
    main()
