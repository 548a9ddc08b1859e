"""A GX on a broker: an MQTT client that answers R/ and W/ as Venus OS does, and can misbehave.

Every rule is one of FACTS.md beside this file, section GX.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

SN = "c0619ab12345"
CGWACS = "settings/0/Settings/CGwacs/"
SCHEDULE = CGWACS + "BatteryLife/Schedule/Charge/0/"
SOC = SCHEDULE + "Soc"
DAY = SCHEDULE + "Day"
START = SCHEDULE + "Start"
DURATION = SCHEDULE + "Duration"
ALLOW_DISCHARGE = SCHEDULE + "AllowDischarge"
MIN_SOC = CGWACS + "BatteryLife/MinimumSocLimit"
STATE = CGWACS + "BatteryLife/State"
HUB4_MODE = CGWACS + "Hub4Mode"
RELAY_1, RELAY_2 = "system/0/Relay/0/State", "system/0/Relay/1/State"
RELAY_1_FUNCTION = "settings/0/Settings/Relay/Function"
RELAY_2_FUNCTION = "settings/0/Settings/Relay/1/Function"
FUNCTIONS = {RELAY_1: RELAY_1_FUNCTION, RELAY_2: RELAY_2_FUNCTION}  # -1: no State
DYNAMIC_ESS = "settings/0/Settings/DynamicEss/Mode"
TIME_ZONE = "settings/0/Settings/System/TimeZone"
CHARGE = "system/0/Control/ScheduledCharge"  # the GX's own word on tonight
CHARGE_STATUS = "system/0/Control/ScheduledChargeStatus"  # since Venus 3.60
OTHER_DAYS = [f"{CGWACS}BatteryLife/Schedule/Charge/{n}/Day" for n in range(1, 5)]

# MinSoc is a float on the GX; State 2 is "on" as the GX moves it by itself. A blue evening.
BLUE_EVENING: dict[str, Any] = {SOC: 80, MIN_SOC: 30.0, STATE: 2, HUB4_MODE: 1, DAY: 7}
BLUE_EVENING |= {START: 79200, DURATION: 28800, ALLOW_DISCHARGE: 0, DYNAMIC_ESS: 0}
BLUE_EVENING |= {TIME_ZONE: "Europe/Paris", RELAY_1: 0, RELAY_2: 0}
BLUE_EVENING |= {CHARGE: 1, CHARGE_STATUS: 0}
BLUE_EVENING |= {RELAY_1_FUNCTION: 2, RELAY_2_FUNCTION: 2, **dict.fromkeys(OTHER_DAYS, -7)}
RANGES: dict[str, dict[str, float]] = {
    SOC: {"max": 100, "min": 0},
    MIN_SOC: {"max": 100.0, "min": 0.0},
}
# The GX moves the State that was written 53-940 ms later; a read at once still shows it.
MOVES = {1: 3, 10: 11}


class GxSimulator:
    """A GX with FlashMQ (Venus 3.20 and later), or an older one with `delay`."""

    def __init__(
        self, port: int, sn: str = SN, password: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        self.sn = sn
        self.values = dict(BLUE_EVENING)
        self.refused: Counter[str] = Counter()  # how many writes of a path are refused, silently
        self.mute: set[str] = set()  # paths that do not answer
        self.delay = 0.0  # seconds before an answer, which carries the value when it was asked
        self.up = True  # False: the settings service is away, R and W fail silently
        # Called before R/ is answered, and after W/ was taken or refused.
        self.on_question: Callable[[str], object] = lambda path: None
        self.on_write: Callable[[str], object] = lambda path: None
        self.questions: list[str] = []
        self.unknown: set[str] = set()  # asked for, and not known here: House.run says so
        self.writes: list[tuple[str, Any]] = []  # every W/ in order, taken or refused
        self._moving: set[str] = set()
        self._unsaved: dict[str, Any] = {}  # what the file still holds
        self._ready = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, f"gx-{sn}")
        if password:
            self.client.username_pw_set("gx", password)
        if context:
            self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._on_message
        # R answers in 0.4-1.2 ms: a GX does not wait for Nagle's algorithm.
        self.client.on_socket_open = lambda *args: args[2].setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self.client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(10), "the simulated GX could not subscribe"

    def close(self) -> None:
        """Leave the broker."""
        self.client.disconnect()
        self.client.loop_stop()

    def forget(self) -> None:
        """What was written is lost: it saves 2 s after a change, and no test takes that long."""
        self.values |= self._unsaved
        self._unsaved.clear()
        self._moving.clear()

    def settings_down(self) -> None:
        """The settings service goes away: each N topic is published once with an empty payload."""
        self.up = False
        self.forget()
        for path in self.values:
            self.client.publish(f"N/{self.sn}/{path}", "")

    def leave_no_serial(self) -> None:
        """Take its retained serial away, as on a GX whose broker has just started."""
        self.client.publish(f"N/{self.sn}/system/0/Serial", "", retain=True).wait_for_publish(5)

    def profile(self) -> tuple[Any, Any, Any]:
        """Schedule SoC, MinSoc and raw State."""
        return self.values[SOC], self.values[MIN_SOC], self.values[STATE]

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(f"R/{self.sn}/#", 0), (f"W/{self.sn}/#", 0)])
        serial = json.dumps({"value": self.sn})
        client.publish(f"N/{self.sn}/system/0/Serial", serial, retain=True)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        kind, _, path = message.topic.split("/", 2)
        if kind == "R":
            self._answer(path)
        else:
            self._take(path, json.loads(message.payload)["value"])

    def _answer(self, path: str) -> None:
        self.questions.append(path)
        self.on_question(path)
        if path not in self.values:
            self.unknown.add(path)  # an unknown path is silence
            return
        if not self.up or path in self.mute:
            return
        if path in FUNCTIONS and self.values[FUNCTIONS[path]] == -1:
            return
        topic, value = f"N/{self.sn}/{path}", {"value": self.values[path]}
        if self.delay:  # the older JSON has spaces and no range
            old = threading.Timer(self.delay, self.client.publish, (topic, json.dumps(value)))
            old.daemon = True
            old.start()
            return
        answer = RANGES.get(path, {}) | value
        self.client.publish(topic, json.dumps(answer, separators=(",", ":")))
        if path in self._moving:  # the raw State was seen once; now the GX moves it
            self._moving.discard(path)
            self.values[path] = MOVES.get(self.values[path], self.values[path])

    def _take(self, path: str, value: Any) -> None:
        """Taken or refused, a write is silent: nothing is announced without a keepalive."""
        self.writes.append((path, value))
        self.refused[path] -= 1
        if self.up and path in self.values and self.refused[path] < 0:
            self._unsaved.setdefault(path, self.values[path])
            self.values[path] = float(value) if path == MIN_SOC else int(value)
            if path == STATE:
                self._moving.add(path)
        self.on_write(path)
