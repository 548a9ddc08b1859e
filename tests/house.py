"""The simulated house: real peers on 127.0.0.1 for the script, which runs as cron would run it.

A mosquitto, the GX on it, an EcoDevice, and the internet (RTE, EDF, api-couleur-tempo.fr, Prowl)
behind an HTTPS proxy with a CA of its own: the real host names are reached, nothing is patched.

A test reads like this:

    def test_a_red_eve(house: House) -> None:
        house.meter("BLEU", "ROUGE", "HP")  # what the EcoDevice says
        house.secret(chgrouge=98)  # secret.py, with this change
        result = house.run(at="2026-11-23T20:05")  # in this process, at this Paris time
        assert result.code == 0
        assert house.writes() == [(SOC, '{"value":98}')]  # what crossed the broker
"""

from __future__ import annotations

import io
import itertools
import json
import os
import queue
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from http.client import parse_headers
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import paho.mqtt.client as mqtt
import trustme
from drive import scaled
from gx_simulator import GxSimulator
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

import tempo_ess

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tempo_ess.py"
KEY = "0123456789abcdef0123456789abcdef01234567"
# Recorded from a Base contract (FACTS.md), with TEMPO's fields in place.
RECORDED: dict[str, Any] = {"product": "Eco-devices", "T1_PTEC": "HPJB", "T1_DEMAIN": "----"}
RECORDED |= {"T1_PAPP": 90, "T1_BASE": 1876058, "T2_PTEC": "----", "T2_PAPP": 0, "T2_BASE": 0}
RECORDED |= {"INDEX_C1": 784659, "INDEX_C2": 11280}
PARIS = ZoneInfo("Europe/Paris")
PROWL_OK = b'<prowl><success code="200" remaining="999" resetdate="1"/></prowl>'


# ---- Sockets -------------------------------------------------------------------------------------


# Below the ports that the kernel hands out by itself, and apart from another worker's.
PORTS = itertools.count(10_000 + os.getpid() % 200 * 100)


def free_port() -> int:
    """A TCP port that nobody listens on, nor will."""
    for port in PORTS:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


Serve = Callable[[socket.socket, int], None]


class Peer:
    """A TCP server; what it does with a connection is a function, told how many came before."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                told = connection, self.connections - 1
                threading.Thread(target=self._serve, args=told, daemon=True).start()

    def _serve(self, connection: socket.socket, earlier: int) -> None:
        with suppress(OSError), connection:
            self.serve(connection, earlier)


class Request(NamedTuple):
    method: str
    host: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


Reply = bytes | Iterable[bytes]
Answer = Callable[[Request], Reply]


def http(status: int, body: bytes | str, *headers: str, length: bool = False) -> bytes:
    """An answer like the EcoDevice's: without Content-Length unless asked for."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def silence() -> Iterator[bytes]:
    yield b""
    threading.Event().wait(400)


def drip(head: bytes, byte: bytes, seconds: float) -> Iterator[bytes]:
    yield head
    for _ in range(4000):
        threading.Event().wait(seconds)
        yield byte


def endless(head: bytes, block: bytes) -> Iterator[bytes]:
    """As many bytes as the other side takes, at most 64 MiB of them."""
    yield head
    for _ in range(64 * 1024 * 1024 // len(block)):
        yield block


class HttpPeer(Peer):
    """A server whose every answer is a function of the request: bytes, or pieces of them."""

    def __init__(self, reply: Answer, context: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self.context = context
        self.requests: list[Request] = []
        self.sent = 0  # bytes that the kernel took, over all answers
        super().__init__(self._answer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _answer(self, connection: socket.socket, _earlier: int) -> None:
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True)
        with connection.makefile("rb") as stream:
            line = stream.readline().decode("latin-1")
            if not line:
                return
            headers = {name.lower(): value for name, value in parse_headers(stream).items()}
            body = stream.read(int(headers.get("content-length", 0)))
        method, target, _ = line.split(" ", 2)
        request = Request(method, headers.get("host", ""), target, headers, body)
        self.requests.append(request)
        reply = self.reply(request)
        for piece in [reply] if isinstance(reply, bytes) else reply:
            connection.sendall(piece)
            self.sent += len(piece)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


# ---- The internet --------------------------------------------------------------------------------


class Internet:
    """The web sources and Prowl by their real names, reached through an HTTPS proxy."""

    WEB = ("www.services-rte.com", "api-commerce.edf.fr", "www.api-couleur-tempo.fr")
    HOSTS = (*WEB, "api.prowlapp.com")

    def __init__(self, folder: Path) -> None:
        self.rte: Answer = lambda request: http(503, "down")
        self.edf: Answer = self.rte
        self.api: Answer = self.rte
        self.prowl: Answer = lambda request: http(200, PROWL_OK)
        authority = trustme.CA()
        self.ca = folder / "internet-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*self.HOSTS).configure_cert(context)
        self.server = HttpPeer(self._reply, context)
        self.connects: list[str] = []
        self.proxy = Peer(self._tunnel)

    @property
    def environment(self) -> dict[str, str]:
        """What makes requests go through the proxy and trust its CA."""
        address = f"http://127.0.0.1:{self.proxy.port}"
        return {"HTTPS_PROXY": address, "HTTP_PROXY": address, "REQUESTS_CA_BUNDLE": str(self.ca)}

    def asked(self, host: str) -> list[Request]:
        return [request for request in self.server.requests if request.host == host]

    @property
    def pushes(self) -> list[dict[str, str]]:
        prowl = self.asked("api.prowlapp.com")
        return [request.form for request in prowl if "/add" in request.target]

    def knows(self, **colours: str) -> None:
        """The web sources answer with these colours, by ISO date (with _ for -, after a d)."""
        days = {name[1:].replace("_", "-"): colour for name, colour in colours.items()}
        self.rte = lambda request: http(200, rte_body(days))
        self.edf = lambda request: edf_answer(request, days)
        self.api = lambda request: http(200, api_body(request.target.rpartition("/")[2], days))

    def close(self) -> None:
        self.server.close()
        self.proxy.close()

    def _reply(self, request: Request) -> Reply:
        answers = (self.rte, self.edf, self.api, self.prowl)
        return dict(zip(self.HOSTS, answers, strict=True))[request.host](request)

    def _tunnel(self, client: socket.socket, _earlier: int) -> None:
        with client.makefile("rb") as stream:
            line = stream.readline().decode("latin-1").strip()
            if not line:
                return
            parse_headers(stream)
        self.connects.append(line)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.port)) as server:
            ends = {client: server, server: client}
            while True:
                for end in select.select(list(ends), [], [], 400)[0]:
                    piece = end.recv(65536)
                    if not piece:
                        return
                    ends[end].sendall(piece)


def rte_body(days: dict[str, str]) -> str:
    """RTE's tempoLight for these days, with the -fallback keys that are to be ignored."""
    codes = {"BLEU": "BLUE", "BLANC": "WHITE", "ROUGE": "RED"}
    values = {f"{day}-fallback": "false" for day in days}
    values |= {day: codes[colour] for day, colour in days.items()}
    return json.dumps({"values": values})


def edf_body(days: dict[str, str]) -> str:
    """EDF's calendar for these days, one more of them not announced."""
    announced = {day: f"TEMPO_{colour}" for day, colour in days.items()}
    announced["2099-01-01"] = "NON_DEFINI"
    calendar = [{"dateApplication": day, "statut": code} for day, code in announced.items()]
    content = {"options": [{"option": "TEMPO", "calendrier": calendar}]}
    return json.dumps({"errors": [], "content": content})


def edf_answer(request: Request, days: dict[str, str]) -> Reply:
    """EDF's answer, a 400 without its two headers, for the days asked."""
    asked = dict(parse_qsl(urlsplit(request.target).query))
    headers = [request.headers.get(x) for x in ("application-origine-controlee", "situation-usage")]
    if headers != ["site_RC", "Jours Effacement"] or asked["option"] != "TEMPO":
        return http(400, "")
    first, last = asked["dateApplicationBorneInf"], asked["dateApplicationBorneSup"]
    return http(200, edf_body({day: days[day] for day in days if first <= day <= last}))


def api_body(day: str, days: dict[str, str]) -> str:
    code = ["", "BLEU", "BLANC", "ROUGE"].index(days.get(day, ""))
    return json.dumps({"dateJour": day, "codeJour": code, "periode": "2026-2027"})


# ---- The broker ----------------------------------------------------------------------------------


class Broker:
    """A mosquitto of our own, which can be stopped and started again on its port."""

    def __init__(self, folder: Path, *lines: str, listener: str = "") -> None:
        self.port = free_port()
        self.conf = folder / f"mosquitto-{self.port}.conf"
        text = ["user root"] if os.geteuid() == 0 else []
        text += ["persistence false", "log_type all", "set_tcp_nodelay true"]
        text += [f"listener {self.port} 127.0.0.1", listener]
        text += lines or ["allow_anonymous true"]
        self.conf.write_text("\n".join(text) + "\n")
        self.start()

    def start(self) -> None:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
        program = shutil.which("mosquitto", path=path)
        assert program, "mosquitto is not installed: sh tests/run.sh installs it"
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            [program, "-c", self.conf], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        self.wait_log(r"mosquitto version .* running")

    def stop(self) -> None:
        """End it, by its own id; a SIGTERM right after its start can be ignored for 10 s."""
        self.process.kill()
        self.process.wait(10)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        with process.stderr:
            for line in process.stderr:
                with self.news:
                    self.lines.append(line)
                    self.news.notify_all()

    def wait_log(self, pattern: str, count: int = 1, seconds: float = 20) -> None:
        """Wait until mosquitto has logged the pattern so many times."""
        with self.news:
            said = self.news.wait_for(
                lambda: sum(bool(re.search(pattern, x)) for x in self.lines) >= count, seconds
            )
        assert said, f"mosquitto never said {pattern!r}:\n{''.join(self.lines)}"

    def settled(self) -> None:
        """Wait until every run of the script that connected has been served to its end."""
        with self.news:
            log = "".join(self.lines)
        for name in set(re.findall(r"connected from .* as (tempo_ess-\w+)", log)):
            end = "disconnected|closed|has exceeded"
            self.wait_log(rf"Client {name} ({end})|Socket error on client {name}")


class Message(NamedTuple):
    topic: str
    payload: str
    retain: bool


class Monitor:
    """Sees every message with the retain flag that its publisher gave it (MQTT 5)."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.messages: list[Message] = []
        self._marks: queue.Queue[str] = queue.Queue()
        ready = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "monitor", protocol=mqtt.MQTTv5)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: ready.set()
        quiet = SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=0, retainAsPublished=True, retainHandling=quiet)
        self.client.on_connect = lambda client, *_: client.subscribe("#", options=options)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert ready.wait(10)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        payload = message.payload.decode(errors="replace")
        if message.topic == "mark":
            self._marks.put(payload)
        else:
            self.messages.append(Message(message.topic, payload, message.retain))

    def seen(self) -> list[Message]:
        """Every message so far, including what the script published just before it ended."""
        self.broker.settled()
        self.client.publish("mark", "now")
        self._marks.get(timeout=10)
        return list(self.messages)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


# ---- The house -----------------------------------------------------------------------------------


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class House:
    gx: GxSimulator  # only in a house that is simulated

    def __init__(
        self, folder: Path, broker: Broker | None = None, simulated: bool = True, **gx: Any
    ) -> None:
        self.folder = folder
        self.answers = dict(RECORDED)
        self.eco = HttpPeer(self.healthy)
        self.internet = Internet(folder)
        self.broker = broker or Broker(folder)
        self.monitor: Monitor | None = None
        if simulated:
            self.gx = GxSimulator(self.broker.port, **gx)
        self.names: dict[str, Any] = {"ecodevice": self.eco.address, "use_api": False}
        self.names |= {"gx": "127.0.0.1", "gxport": self.broker.port, "gxsn": "c0619ab12345"}
        self.names["prowlkey"] = KEY

    def close(self) -> None:
        for peer in (self.monitor, vars(self).get("gx"), self.eco, self.internet):
            if peer:
                peer.close()
        if self.broker.process.poll() is None:
            self.broker.stop()

    def healthy(self, _request: Request) -> bytes:
        """The EcoDevice's answer when all is well."""
        return http(200, json.dumps(self.answers, separators=(",", ":")))

    def watch(self) -> Monitor:
        self.monitor = self.monitor or Monitor(self.broker)
        return self.monitor

    def meter(self, today: str, tomorrow: str | None, period: str) -> None:
        """What the EcoDevice will say; tomorrow None is ----."""
        self.answers["T1_PTEC"] = period + {"BLEU": "JB", "BLANC": "JW", "ROUGE": "JR"}[today]
        self.answers["T1_DEMAIN"] = tomorrow[:4] if tomorrow else "----"

    def secret(self, text: str | bytes | None = None, mode: int = 0o600, **changes: Any) -> Path:
        """Write secret.py: the house's names with changes (None: left out), or this text."""
        path = self.folder / "secret.py"
        if text is None:
            names = (self.names | changes).items()
            text = "".join(f"{name} = {value!r}\n" for name, value in names if value is not None)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def start(
        self, *arguments: str, at: str | None = None, scale: float = 1, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start the script as a subprocess; at: Paris time; scale: of all limits."""
        if "executable" not in popen:
            at = at or self.suitable_time()
        driven = [str(ROOT / "tests/drive.py"), at or "now", str(scale)]
        program = [str(SCRIPT)] if at is None and scale == 1 else driven
        command = [sys.executable, "-B", *program, *self.config(*arguments), *arguments]
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": "/"}
        options |= {"stdin": subprocess.DEVNULL} | popen
        options["env"] = self.environment | (popen.get("env") or {})
        return subprocess.Popen(command, encoding="utf-8", **options)

    def run(
        self,
        *arguments: str,
        at: str | None = None,
        scale: float = 1,
        limits: dict[str, float] | None = None,
        **special: Any,
    ) -> Result:
        """Run the script to its end: in this process, unless streams are the point.

        scale: of all limits; limits: these, by the names of the script's constants, in seconds.
        """
        if special:
            process = self.start(*arguments, at=at, scale=scale, **special)
            out, err = process.communicate(timeout=330)
            return Result(process.returncode, out or "", err or "")
        moment = at or self.suitable_time()
        fixed = datetime.fromisoformat(moment).replace(tzinfo=PARIS) if moment else None
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.multiple(tempo_ess, **(scaled(scale) | (limits or {}))),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            time.tzset()
            try:
                options = [*self.config(*arguments), *arguments]
                code = tempo_ess.main(options, lambda: fixed or tempo_ess.paris_now())
            except SystemExit as end:
                code = int(str(end.code))
        time.tzset()  # back to the environment's own zone
        return Result(code, output.getvalue(), errors.getvalue())

    def suitable_time(self) -> str | None:
        """A Paris time in HP for a meter in HP, when the real one would earn a remark."""
        night = not 6 <= datetime.now(PARIS).hour < 22
        return "2026-11-23T20:05" if night and "HP" in str(self.answers.get("T1_PTEC")) else None

    @property
    def environment(self) -> dict[str, str]:
        """The bare environment that cron gives, and the way to the internet."""
        bare = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        bare |= {"LOGNAME": "owner", "TZ": "Europe/Paris"}  # the clock that /etc/localtime sets
        return bare | self.internet.environment

    def config(self, *arguments: str) -> list[str]:
        """The option that names the house's secret.py, written if need be."""
        secret = self.folder / "secret.py"
        if not secret.exists():
            self.secret()
        return [] if "--config" in arguments else ["--config", str(secret)]

    def writes(self) -> list[tuple[str, str]]:
        """The W/ messages that crossed the broker, as path and payload; none may be retained."""
        assert self.monitor
        seen = self.monitor.seen()
        assert not [one for one in seen if one.retain and one.topic[:2] in ("W/", "R/")]
        written = [one for one in seen if one.topic.startswith("W/")]
        return [(one.topic.split("/", 2)[2], one.payload) for one in written]
