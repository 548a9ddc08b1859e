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
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from http.client import parse_headers
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any, NamedTuple
from unittest import mock
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4
from zoneinfo import ZoneInfo

import paho.mqtt.client as mqtt
import trustme
from drive import drive
from gx_simulator import GxSimulator
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

import tempo_ess

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tempo_ess.py"
KEY = "0123456789abcdef0123456789abcdef01234567"
# Recorded from a Base contract (FACTS.md), with TEMPO's fields in place.
RECORDED: dict[str, Any] = {"product": "Eco-devices", "T1_PTEC": "HPJB", "T1_DEMAIN": "----"}
RECORDED |= {"T1_PAPP": 90, "T2_PTEC": "----", "T2_PAPP": 0, "INDEX_C1": 784659}
PARIS = ZoneInfo("Europe/Paris")
EVENING = {
    "HP": "2026-11-22T20:05",
    "HC": "2026-11-22T22:02",
}  # of a run, unless a test has its own
VERSION = tempo_ess.__version__
PROWL_OK = b'<prowl><success code="200" remaining="999" resetdate="1"/></prowl>'
Limits = dict[str, float] | None  # seconds, by the names of the script's constants


# ---- Sockets -------------------------------------------------------------------------------------


# Below the ports that the kernel hands out by itself, and apart from another worker's.
PORTS = itertools.count(10_000 + os.getpid() % 200 * 100)
RESERVED: list[socket.socket] = []  # UDP, to keep other tests off the TCP port of the same number


def free_port() -> int:
    """A TCP port that nobody listens on, nor will: not even while its broker is stopped."""
    for port in PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            reservation.bind(("127.0.0.1", port))
            RESERVED.append(reservation)
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
        with suppress(OSError), self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)

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
        self.address = f"127.0.0.1:{self.port}"

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
        connection.shutdown(socket.SHUT_WR)


# ---- The internet --------------------------------------------------------------------------------

Days = dict[str, str]  # colours by ISO date


class WebSource(NamedTuple):
    """The simulated peer of one of the script's web sources."""

    attribute: str  # of Internet: what it answers in this test
    host: str
    target: str  # of a request for these two days
    body: Callable[[str, Days], str]  # its answer to such a target, when it knows these days
    odd: list[tuple[str, str]]  # changes to a body that says ROUGE, after which it says nothing
    headers: dict[str, str]  # without which it answers 400

    def answer(self, days: Days, request: Request) -> Reply:
        """What it says to a request that it likes: with its headers, our name and no login."""
        wanted = self.headers | {"user-agent": f"tempo_ess/{VERSION}"}
        if "authorization" in request.headers or not wanted.items() <= request.headers.items():
            return http(400, "")
        return http(200, self.body(request.target, days))


def rte_body(_target: str, days: Days) -> str:
    """RTE's tempoLight for these days, with the -fallback keys that are to be ignored."""
    codes = {"BLEU": "BLUE", "BLANC": "WHITE", "ROUGE": "RED"}
    values = {f"{day}-fallback": "false" for day in days}
    values |= {day: codes[colour] for day, colour in days.items()}
    return json.dumps({"values": values})


def edf_body(target: str, days: Days) -> str:
    """EDF's calendar for the days asked, one more of them not announced."""
    asked = dict(parse_qsl(urlsplit(target).query))
    first, last = asked["dateApplicationBorneInf"], asked["dateApplicationBorneSup"]
    announced = {day: f"TEMPO_{days[day]}" for day in days if first <= day <= last}
    announced["2099-01-01"] = "NON_DEFINI"
    calendar = [{"dateApplication": day, "statut": code} for day, code in announced.items()]
    content = {"options": [{"option": "TEMPO", "calendrier": calendar}]}
    return json.dumps({"errors": [], "content": content})


def api_body(target: str, days: Days) -> str:
    """api-couleur-tempo.fr's answer for the days asked, 0 for one that it does not know."""
    codes = ["", "BLEU", "BLANC", "ROUGE"]
    asked = [day for name, day in parse_qsl(urlsplit(target).query) if name == "dateJour[]"]
    return json.dumps(
        [{"dateJour": day, "codeJour": codes.index(days.get(day, ""))} for day in asked]
    )


# By their names in the script's WEB_SOURCES, in the order of asking. A new source is one row
# and a line in Internet.
WEB = {
    "RTE": WebSource(
        "rte",
        "www.services-rte.com",
        "/cms/open_data/v1/tempoLight",
        rte_body,
        [("RED", "PURPLE"), ('"RED"', '["RED"]'), ("values", "other"), ('"false"', '"true"')],
        {},
    ),
    "EDF": WebSource(
        "edf",
        "api-commerce.edf.fr",
        "/commerce/activet/v1/calendrier-jours-effacement?option=TEMPO&"
        "dateApplicationBorneInf={today}&dateApplicationBorneSup={tomorrow}"
        "&identifiantConsommateur=src",
        edf_body,
        [("TEMPO_ROUGE", "NON_DEFINI"), ("content", "other")],
        {"application-origine-controlee": "site_RC", "situation-usage": "Jours Effacement"},
    ),
    "api-couleur-tempo.fr": WebSource(
        "api",
        "www.api-couleur-tempo.fr",
        "/api/joursTempo?dateJour[]={today}&dateJour[]={tomorrow}",
        api_body,
        [(": 3", ": 0"), (": 3", ": true"), ("dateJour", "other")],
        {},
    ),
}
PROWL = "api.prowlapp.com"


class Internet:
    """The web sources and Prowl by their real names, reached through an HTTPS proxy."""

    rte: Answer  # what a source of WEB answers, until a test says otherwise that it is down
    edf: Answer
    api: Answer

    def __init__(self, folder: Path) -> None:
        self.attributes = {source.host: source.attribute for source in WEB.values()}
        for attribute in self.attributes.values():
            setattr(self, attribute, lambda request: http(503, "down"))
        self.attributes[PROWL] = "prowl"
        self.prowl: Answer = lambda request: http(200, PROWL_OK)
        authority = trustme.CA()
        self.ca = folder / "internet-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*self.attributes).configure_cert(context)
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
    def questions(self) -> list[tuple[str, str]]:
        """Host and target (decoded) of every request to a web source, in their order."""
        requests = self.server.requests
        return [(one.host, unquote(one.target)) for one in requests if one.host != PROWL]

    @property
    def pushes(self) -> list[dict[str, str]]:
        return [request.form for request in self.asked(PROWL) if "/add" in request.target]

    def teach(self, name: str, days: Days) -> None:
        """The web source of this name knows these colours."""
        setattr(self, WEB[name].attribute, partial(WEB[name].answer, days))

    def knows(self, **colours: str) -> None:
        """All web sources know these colours, by ISO date (with _ for -, after a d)."""
        for name in WEB:
            self.teach(name, {day[1:].replace("_", "-"): one for day, one in colours.items()})

    def close(self) -> None:
        self.server.close()
        self.proxy.close()

    def _reply(self, request: Request) -> Reply:
        answer: Answer = getattr(self, self.attributes[request.host])
        return answer(request)

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


# ---- The broker ----------------------------------------------------------------------------------


class Broker:
    """A mosquitto of our own, which can be stopped and started again on its port."""

    def __init__(self, folder: Path, *lines: str, listener: str = "") -> None:
        self.port = free_port()
        self.conf = folder / f"mosquitto-{self.port}.conf"
        text = ["user root", "log_type all", "set_tcp_nodelay true"]
        text += [f"listener {self.port} 127.0.0.1", listener, *(lines or ["allow_anonymous true"])]
        self.conf.write_text("\n".join(text) + "\n")
        self.start()

    def start(self) -> None:
        env = {"PATH": os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"}
        command = ["mosquitto", "-c", str(self.conf)]  # absent? sh tests/run.sh installs it
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.process = Popen(command, env=env, stderr=PIPE, text=True)
        threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True).start()
        self.wait_log(r"mosquitto version .* running")

    def stop(self) -> None:
        """End it, by its own id; a SIGTERM right after its start can be ignored for 10 s."""
        self.process.kill()
        self.process.wait(10)

    def _listen(self, log: IO[str]) -> None:
        with log:
            for line in log:
                with self.news:
                    self.lines.append(line)
                    self.news.notify_all()

    def wait_log(self, pattern: str) -> None:
        """Wait until mosquitto has logged the pattern."""
        with self.news:
            said = self.news.wait_for(lambda: re.search(pattern, "".join(self.lines)), 20)
        assert said, f"mosquitto never said {pattern!r}:\n{''.join(self.lines)}"

    def settled(self) -> None:
        """Wait until every run of the script that connected has been served to its end."""
        for name in re.findall(r"connected from .* as (tempo_ess-\w+)", "".join(self.lines)):
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
        self._arrived: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        quiet = SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(retainAsPublished=True, retainHandling=quiet)
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "monitor", protocol=mqtt.MQTTv5)
        self.client.on_message = lambda client, data, message: self._arrived.put(message)
        self.client.on_connect = lambda client, *_: client.subscribe("#", options=options)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        broker.wait_log("Sending SUBACK to monitor")

    def seen(self) -> list[Message]:
        """Every message so far, including what the script published just before it ended."""
        self._catch_up()  # the log, which may be read late, names every run that connected
        self.broker.settled()
        self._catch_up()
        return list(self.messages)

    def _catch_up(self) -> None:
        """Wait until all that the broker did so far has arrived here, and in its log."""
        mark = f"mark-{uuid4().hex}"
        self.client.publish(mark)
        while (new := self._arrived.get(timeout=20)).topic != mark:
            payload = new.payload.decode(errors="replace")
            self.messages.append(Message(new.topic, payload, new.retain))
        self.broker.wait_log(mark)

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
        for peer in (self.monitor, getattr(self, "gx", None), self.eco, self.internet):
            if peer:
                peer.close()
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

    def secret(self, text: str = "", mode: int = 0o600, **changes: Any) -> Path:
        """Write secret.py: the house's names with changes (None: left out), or this text."""
        path = self.folder / "secret.py"
        names = (self.names | changes).items()
        lines = [f"{name} = {value!r}\n" for name, value in names if value is not None]
        path.write_text(text or "".join(lines), "utf-8")
        path.chmod(mode)
        return path

    def start(self, *arguments: str, at: str = "", scale: float = 1, **popen: Any) -> Popen[str]:
        """Start the script as a subprocess; at: Paris time; scale: of all limits."""
        if "executable" not in popen:
            at = at or self.suitable_time()
        driven = [str(ROOT / "tests/drive.py"), at, str(scale)]
        program = driven if at or scale != 1 else [str(SCRIPT)]
        command = [sys.executable, "-B", *program, *self.config, *arguments]
        options: dict[str, Any] = {"stdout": PIPE, "stderr": PIPE, "cwd": "/"}
        options |= popen | {"env": self.environment | popen.get("env", {})}
        return Popen(command, encoding="utf-8", **options)

    def run(
        self,
        *arguments: str,
        at: str = "",
        scale: float = 1,
        limits: Limits = None,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> Result:
        """Run the script to its end: in this process, unless streams are the point."""
        if popen:
            process = self.start(*arguments, at=at, scale=scale, env=env or {}, **popen)
            out, err = process.communicate(timeout=330)
            result = Result(process.returncode, out or "", err or "")
        else:
            at = at or self.suitable_time()
            result = self._run_here([*self.config, *arguments], at, scale, limits or {}, env or {})
        unknown = self.gx.unknown if hasattr(self, "gx") else set()
        assert not unknown, f"gx_simulator.py does not know {unknown}: every run waits for it"
        return result

    def _run_here(
        self, arguments: list[str], at: str, scale: float, limits: dict[str, float], env: Any
    ) -> Result:
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment | env, clear=True),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            time.tzset()
            try:
                code = drive(arguments, at, scale, limits)
            except SystemExit as end:
                code = int(str(end.code))
        time.tzset()  # back to the environment's own zone
        return Result(code, output.getvalue(), errors.getvalue())

    def suitable_time(self) -> str:
        """The Paris time of the run that belongs to the meter's period: 20:05 or 22:02."""
        return EVENING["HP" if "HP" in str(self.answers["T1_PTEC"]) else "HC"]

    @property
    def environment(self) -> dict[str, str]:
        """The bare environment that cron gives, and the way to the internet."""
        bare = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "TZ": "Europe/Paris"}
        return bare | self.internet.environment

    @property
    def config(self) -> list[str]:
        """The option that names the house's secret.py, written if need be; a later one counts."""
        secret = self.folder / "secret.py"
        return ["--config", str(secret if secret.exists() else self.secret())]

    def push(self, priority: str = "0") -> str:
        """The text of the one push, which has this priority."""
        (push,) = self.internet.pushes
        assert (push["event"], push["priority"]) == ("EDF TEMPO", priority)
        return push["description"]

    def writes(self) -> list[tuple[str, str]]:
        """The W/ messages that crossed the broker, as path and payload; none may be retained."""
        assert self.monitor
        seen = self.monitor.seen()
        assert not [one for one in seen if one.retain and one.topic[:2] in ("W/", "R/")]
        return [(one.topic.split("/", 2)[2], one.payload) for one in seen if one.topic[:2] == "W/"]
