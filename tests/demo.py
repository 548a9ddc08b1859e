"""Play the evening before a red day: 20:05, then 22:02, with the script itself, for an owner.

Only the clock is given, since an evening is wanted at any hour. With --mqtt all messages are shown.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from gx_simulator import MIN_SOC, SOC, STATE
from house import Broker, House

MOMENTS = (("20:05", "HP", "heures pleines"), ("22:02", "HC", "heures creuses"))
LEGEND = "R/ : le script demande une valeur ; N/ : le GX répond ; W/ : le script écrit."


class Subscriber:
    """mosquitto_sub -v -t '#', as the owner would run it in a second terminal."""

    def __init__(self, broker: Broker) -> None:
        program = shutil.which("mosquitto_sub")
        assert program, "mosquitto_sub manque : paquet mosquitto-clients"
        command = [program, "-h", "127.0.0.1", "-p", str(broker.port), "-v", "-t", "#"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        broker.wait_log(r"Sending SUBACK to auto-")

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip())
                self.news.notify_all()

    def take(self, mark: str) -> list[str]:
        """The messages so far, up to this mark."""
        with self.news:
            self.news.wait_for(lambda: any(line.startswith(mark) for line in self.lines), 10)
            taken, self.lines = self.lines, []
        return [line for line in taken if not line.startswith(mark)]


def emphasis(text: str, colour: int) -> str:
    """The text in this colour, on a terminal only."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[1;{colour}m{text}\x1b[0m"


def state(house: House) -> str:
    """The GX's three settings, as on its own screen."""
    assert house.gx
    values = house.gx.values
    life = "on" if values[STATE] < 9 else "off"
    return f"Schedule 1 SoC {values[SOC]} %, MinSoc {values[MIN_SOC]:g} %, BatteryLife {life}"


def show_messages(lines: list[str], everything: bool) -> None:
    """The writes in full; questions and answers too, or else their number."""
    for line in lines:
        if line.startswith("W/"):
            print("  " + emphasis(line, 33))
        elif everything:
            print("  " + line)
    if not everything:
        questions = sum(line.startswith("R/") for line in lines)
        answers = sum(line.startswith("N/") for line in lines)
        print(f"  et {questions} questions R/, {answers} réponses N/")


def play(
    house: House, subscriber: Subscriber, moment: tuple[str, str, str], everything: bool
) -> None:
    """One run of the script, and what it did."""
    assert house.gx
    time, period, words = moment
    house.meter("BLEU", "ROUGE", period)
    pushes = len(house.internet.pushes)
    heading = f"===== {time}, {words} : le compteur dit aujourd'hui BLEU, demain ROUGE ====="
    print("\n" + emphasis(heading, 36))
    print(f"\nLe GX avant : {state(house)}\n")
    print("$ tempo_ess.py")
    result = house.run(at=f"2026-11-23T{time}")
    print(result.text + f"(code de sortie {result.code})")
    house.broker.settled()
    house.gx.client.publish("fin", "")
    print("\nLes messages MQTT :")
    show_messages(subscriber.take("fin"), everything)
    for push in house.internet.pushes[pushes:]:
        print(f"\nLa notification Prowl, priorité {push['priority']} :")
        print(f"  {push['event']} - {push['description']}")
    print(f"\nLe GX après : {state(house)}")


def closing(house: House) -> str:
    """What the evening means to an owner."""
    assert house.gx
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
        subscriber = Subscriber(house.broker)
        try:
            print("Une soirée simulée sur cette machine : un EcoDevice, un GX et Prowl.")
            print("Rien n'est lu ni écrit ailleurs.")
            print(f"\n{LEGEND}")
            if not everything:
                print("Tous les messages : sh tests/demo.sh --mqtt")
            for moment in MOMENTS:
                play(house, subscriber, moment, everything)
            print("\n" + emphasis(closing(house), 31))
        finally:
            subscriber.process.terminate()
            house.close()


if __name__ == "__main__":
    main()
