"""Play the evening before a red day: 20:05, then 22:02, with the script itself, and show what an owner wants to see.

Only the clock is given, since an evening is wanted at any hour: see drive.py.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from gx_simulator import MIN_SOC, SOC, STATE
from house import Broker, House

MOMENTS = (("20:05", "HP", "heures pleines"), ("22:02", "HC", "heures creuses"))


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


def state(house: House) -> str:
    """The GX's three settings, as on its own screen."""
    assert house.gx
    values = house.gx.values
    life = "on" if values[STATE] < 9 else "off"
    return f"Schedule 1 SoC {values[SOC]} %, MinSoc {values[MIN_SOC]:g} %, BatteryLife {life}"


def play(house: House, subscriber: Subscriber, time: str, period: str, words: str) -> None:
    """One run of the script, and what it did."""
    assert house.gx
    house.meter("BLEU", "ROUGE", period)
    pushes = len(house.internet.pushes)
    print(f"\n===== {time}, {words} : le compteur dit aujourd'hui BLEU, demain ROUGE =====")
    print(f"\nLe GX avant   : {state(house)}\n")
    print("$ tempo_ess.py")
    result = house.run(at=f"2026-11-23T{time}")
    print(result.text + f"(code de retour {result.code})")
    house.broker.settled()
    house.gx.client.publish("fin", "")
    print("\nLes messages MQTT (mosquitto_sub -v -t '#') :")
    for line in subscriber.take("fin"):
        print("  " + line)
    for push in house.internet.pushes[pushes:]:
        print(f"\nLa notification Prowl, priorité {push['priority']} :\n  {push['event']} - {push['description']}")
    print(f"\nLe GX après   : {state(house)}")


def main() -> None:
    """The whole evening, in a few seconds."""
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.secret()
        subscriber = Subscriber(house.broker)
        try:
            print("Une soirée simulée : un EcoDevice, un GX sur un mosquitto de test et Prowl, tous sur 127.0.0.1.")
            for moment in MOMENTS:
                play(house, subscriber, *moment)
        finally:
            subscriber.process.terminate()
            house.close()


if __name__ == "__main__":
    main()
