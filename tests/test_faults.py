"""The way to the GX fails in every way, the run is killed anywhere; the next run repairs."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gx_simulator
import pytest
from gx_simulator import GxSimulator
from house import House, Peer, Result, Serve, drip, free_port, http, silence

import tempo_ess

AT = "2026-11-22T22:02"  # the HC run on the eve of a red day: three settings to write
RED = (100, 25.0, 11)  # Schedule SoC, MinSoc, and State as the GX moves what was written
NOTHING = "rien n'a été écrit, le GX garde ses réglages"
PUBLISHED = "publié, non confirmé"
# Seconds: EcoDevice, three web sources, the GX, Prowl.
LONGEST = 30 + 3 * tempo_ess.WEB_TIMEOUT + tempo_ess.GX_WORK + tempo_ess.PROWL_TIMEOUT
BUSY = 5  # seconds that a busy machine may lose beyond the limits


# ---- Peers on the way to the GX ------------------------------------------------------------------


def say(answer: bytes = b"") -> Serve:
    """Answer the first thing that comes with this; then not a word until the client leaves."""

    def serve(connection: socket.socket, _earlier: int) -> None:
        connection.recv(4096)
        connection.sendall(answer)
        while connection.recv(4096):
            pass

    return serve


def packets(source: socket.socket) -> Iterator[bytes]:
    """The MQTT packets of a stream, all of them below 16 KiB: their length takes 1 or 2 bytes."""
    with source.makefile("rb") as stream:
        while head := stream.read(2):
            size = head[1]
            if size > 127:
                head += stream.read(1)
                size += 128 * (head[2] - 1)
            yield head + stream.read(size)


def way(
    broker: int,
    cut: str,
    again: bool = False,
    back: bool = True,
    on_cut: Callable[[], None] = lambda: None,
) -> Serve:
    """A way to the broker that is cut before the first message, to or from the GX, that matches.

    again: so is each later connection. back: later connections are not closed at once.
    """
    was_cut = threading.Event()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            for packet in packets(source):
                message = packet[0] >> 4 == 3 and packet.decode("latin-1")
                if message and re.search(cut, message) and (again or not was_cut.is_set()):
                    was_cut.set()
                    on_cut()
                    break
                sink.sendall(packet)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(client: socket.socket, _earlier: int) -> None:
        if back or not was_cut.is_set():
            with socket.create_connection(("127.0.0.1", broker)) as server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answers = threading.Thread(target=pump, args=(server, client), daemon=True)
                answers.start()
                pump(client, server)
                answers.join()

    return serve


# ---- What a run leaves and says ------------------------------------------------------------------


@pytest.fixture
def gx(house: House) -> GxSimulator:
    """The house's GX, on the eve of a red day."""
    house.meter("BLEU", "ROUGE", "HC")
    return house.gx


def when(gx: GxSimulator, event: str, action: Callable[[], Any]) -> None:
    """Do this when the n-th question (R3) or write (W1) has come, before the GX answers."""
    seen: list[Any] = gx.questions if event[0] == "R" else gx.writes

    def hook(_path: str) -> None:
        if len(seen) == int(event[1:]):
            action()

    setattr(gx, "on_question" if event[0] == "R" else "on_write", hook)


def failed(house: House, result: Result, code: int, *words: str) -> None:
    """The run ended with this code; the terminal and the one push say why, and what is left."""
    assert result.code == code, result.text
    assert "Traceback" not in result.text
    for word in words:
        assert re.search(word, house.push("1"), re.DOTALL), house.push("1")
        assert re.search(word, result.text, re.DOTALL), result.text
    assert [line for line in result.err.splitlines() if line not in house.push("1")] == []


def ended_well(house: House, gx: GxSimulator, result: Result) -> None:
    """Exit 0, the GX right, and the push claims it."""
    assert result.code == 0, result.text
    assert gx.profile() == RED
    assert house.push("1").startswith("Demain ROUGE\n")


# ---- Out of reach, or lost on the way ------------------------------------------------------------

OUT_OF_REACH: dict[str, Serve | str] = {  # a peer, or a name where nobody listens
    "refused": "127.0.0.1",
    "a name that does not resolve": "gx.invalid",
    "accepted and mute": say(),
    "closed at once": lambda *_: None,
    "an HTTP answer": say(http(400, "<html>Bad Request</html>")),
}


@pytest.mark.usefixtures("gx")
@pytest.mark.parametrize("peer", OUT_OF_REACH.values(), ids=OUT_OF_REACH)
def test_a_gx_out_of_reach_is_exit_4_within_the_limit(house: House, peer: Serve | str) -> None:
    name, port = (peer, free_port()) if isinstance(peer, str) else ("127.0.0.1", Peer(peer).port)
    house.secret(gx=name, gxport=port)
    start = time.monotonic()
    result = house.run(at=AT, limits={"GX_WORK": 2, "CONNECT_TRY": 0.4, "CONNECT_PAUSE": 0.2})
    assert 1 < time.monotonic() - start < 2 + BUSY
    failed(house, result, 4, f"injoignable.*{name}:{port}.*Secured.*gxtls", NOTHING)
    assert "SoC" not in result.text, "nothing was read or written"
    assert ("nom inconnu du réseau" in result.err) == (name == "gx.invalid")


# Before which message the connection is lost; exit code and words when it never comes back.
LOST = {
    "before the first question": ("R/", 4, NOTHING),
    "before the last answer": ("N/.*Life/State", 4, NOTHING),
    "between read and write": ("W/", 5, PUBLISHED),
    "between two writes": ("W/.*Life/State", 5, PUBLISHED),
    "between write and confirmation": ('N/.*/Soc.*"value":100}', 5, PUBLISHED),
    "between two confirmations": ('N/.*"value":25.0}', 5, f"100 %, confirmé.*25 %, {PUBLISHED}"),
}


@pytest.mark.parametrize("cut", [cut for cut, _, _ in LOST.values()], ids=LOST)
def test_a_connection_that_comes_back_ends_well(house: House, gx: GxSimulator, cut: str) -> None:
    """Read begins again: a power cut loses what was not saved yet, even if it was confirmed."""
    peer = Peer(way(house.broker.port, cut, on_cut=gx.forget))
    house.secret(gxport=peer.port)
    ended_well(house, gx, house.run(at=AT, scale=0.1))
    assert peer.connections == 2
    house.writes()


@pytest.mark.parametrize(("cut", "code", "words"), LOST.values(), ids=LOST)
def test_a_connection_that_never_comes_back_says_what_the_gx_is_left_with(
    house: House, gx: GxSimulator, cut: str, code: int, words: str
) -> None:
    house.secret(gxport=Peer(way(house.broker.port, cut, back=False)).port)
    limits = {"GX_WORK": 3, "CONNECT_TRY": 0.5, "CONNECT_PAUSE": 0.3}
    result = house.run(at=AT, limits=limits)  # asked once, so no early answer comes late
    failed(house, result, code, words)
    assert bool(gx.writes) == (code == 5 and cut != "W/")
    house.writes()


def test_a_broker_that_cut_us_once_is_not_taken_for_a_test_broker(test_broker: House) -> None:
    test_broker.meter("BLEU", "ROUGE", "HC")
    test_broker.secret(gxport=Peer(way(test_broker.broker.port, "R/")).port)
    result = test_broker.run(at=AT, scale=0.05)
    failed(test_broker, result, 5, "ses réglages ne répondent pas", NOTHING)
    assert test_broker.writes() == []


# ---- A GX, or its Wi-Fi, that stalls -------------------------------------------------------------

CONNACK, SUBSCRIBE, SUBACK = 2, 8, 9  # kinds of MQTT packets


def stall(broker: int, before_suback: bool, ends: bool) -> Serve:
    """A way to the broker that holds what comes after CONNACK, or the answers from SUBACK on.

    It holds them until a second SUBSCRIBE was sent, or, when it never ends, as long as this
    connection lasts; a later connection is served. What was held is executed then [FACTS.md].
    """

    def serve(client: socket.socket, earlier: int) -> None:
        is_held = threading.Event()
        flows = threading.Event()
        subscriptions = 0

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                for packet in packets(source):
                    if packet[0] >> 4 == SUBACK and before_suback and earlier == 0:
                        is_held.set()
                    if is_held.is_set() and (source is server or not before_suback):
                        flows.wait(30)
                    sink.sendall(packet)
                    if packet[0] >> 4 == CONNACK and not before_suback and earlier == 0:
                        is_held.set()
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def questions() -> None:
            """The client's packets, counted as they come, however long they are held."""
            nonlocal subscriptions
            inner, outer = socket.socketpair()
            threading.Thread(target=pump, args=(inner, server), daemon=True).start()
            with suppress(OSError):
                for packet in packets(client):
                    subscriptions += packet[0] >> 4 == SUBSCRIBE
                    if ends and subscriptions == 2:
                        flows.set()
                    outer.sendall(packet)
            flows.set()
            outer.close()

        with socket.create_connection(("127.0.0.1", broker)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=pump, args=(server, client), daemon=True)
            answers.start()
            questions()
            answers.join()

    return serve


@pytest.mark.parametrize("ends", [True, False], ids=["then goes on", "until the next try"])
@pytest.mark.parametrize("before_suback", [False, True], ids=["after CONNACK", "before SUBACK"])
@pytest.mark.parametrize(
    "held",
    [{gx_simulator.STATE: 9}, {gx_simulator.HUB4_MODE: 3}, {gx_simulator.STATE: 5}],
    ids=["State 9", "Hub4Mode 3", "State 5"],
)
def test_a_stalled_gx_is_no_test_broker(
    house: House, held: dict[str, int], before_suback: bool, ends: bool
) -> None:
    """Nothing is written blindly: not over the owner's choice, nor 1 in State 5."""
    house.meter("BLEU", "BLANC", "HC")
    house.gx.values |= held
    house.secret(gxport=Peer(stall(house.broker.port, before_suback, ends)).port)
    result = house.run(at=AT, scale=0.1)
    assert result.code == 0, result.text
    assert house.gx.writes == [(gx_simulator.SOC, 90)]
    assert ("nouvel essai" in result.out) == (not ends)


def test_a_stalled_gx_that_announces_no_serial_is_heard_by_its_late_answers(
    house: House,
) -> None:
    """As while systemcalc restarts; they come after the SUBACK."""
    house.meter("BLEU", "BLANC", "HC")
    house.gx.values[gx_simulator.STATE] = 9
    house.gx.leave_no_serial()
    house.gx.delay = 0.1
    house.secret(gxport=Peer(stall(house.broker.port, before_suback=False, ends=True)).port)
    result = house.run(at=AT, limits={"ANSWER": 1, "ASK_AGAIN": 0.3, "READ_ONLY_WAIT": 0.3})
    assert result.code == 0, result.text
    assert house.gx.writes == [(gx_simulator.SOC, 90)]


@pytest.mark.usefixtures("gx")
def test_a_broker_that_refuses_the_subscription_is_no_test_broker(house: House) -> None:
    """A house broker, for one: its user may not read N/, and a GX may well be behind it."""
    published = []

    def answer(client: socket.socket, _earlier: int) -> None:
        """With the id of each SUBSCRIBE, which follows its length."""
        for packet in packets(client):
            if packet[0] >> 4 == 1:
                client.sendall(bytes([CONNACK << 4, 2, 0, 0]))
            elif packet[0] >> 4 == SUBSCRIBE:
                start = 3 if packet[1] > 127 else 2
                client.sendall(bytes([SUBACK << 4, 3, *packet[start : start + 2], 0x80]))
            elif b"W/" in packet:
                published.append(packet)

    house.secret(gxport=Peer(answer).port)
    failed(house, house.run(at=AT, scale=0.02), 4, "refuse l'abonnement", NOTHING)
    assert published == []


@pytest.mark.usefixtures("gx")
def test_a_broker_that_is_mute_after_connack_is_out_of_reach(house: House) -> None:
    house.secret(gxport=Peer(say(bytes([0x20, 2, 0, 0]))).port)
    failed(house, house.run(at=AT, scale=0.02), 4, "le broker ne répond plus", NOTHING)


# ---- A GX that starts ----------------------------------------------------------------------------


def test_a_gx_that_reboots_ends_well(house: House, gx: GxSimulator) -> None:
    """It refuses the right password; then its settings and its serial are not up yet."""
    refusals = [say(bytes([0x20, 2, 0, connack])) for connack in (4, 5)]
    through = way(house.broker.port, "nothing is cut")
    peer = Peer(lambda link, earlier: [*refusals, through][earlier](link, earlier))
    house.secret(gxport=peer.port, gxpassword="Sésame")
    gx.leave_no_serial()
    gx.up = False
    when(gx, "R30", lambda: setattr(gx, "up", True))
    result = house.run(at=AT, scale=0.1)
    ended_well(house, gx, result)
    assert result.out.count("nouvel essai") == 2
    assert peer.connections == 3


@pytest.mark.usefixtures("gx")
def test_no_try_is_begun_that_would_not_fit_whole(house: House) -> None:
    """So the last reason is a full one: here the refusal, and no time-out that was cut short."""
    moments: list[float] = []

    def refuse(connection: socket.socket, _earlier: int) -> None:
        moments.append(time.monotonic())
        say(bytes([0x20, 2, 0, 5]))(connection, 0)

    house.secret(gxport=Peer(refuse).port)
    limits = {"GX_WORK": 3, "CONNECT_TRY": 1.4, "CONNECT_PAUSE": 0.3}
    failed(house, house.run(at=AT, limits=limits), 4, "gxpassword", NOTHING)
    assert moments[-1] - moments[0] < 3 - 1.4
    assert len(moments) > 2, "but until then they go on"


POINTS = [*(f"R{n}" for n in range(1, 11)), *(f"W{n}" for n in range(1, 4))]  # of a whole run


@pytest.mark.parametrize("later", [1, 60])
@pytest.mark.parametrize("event", POINTS)
def test_a_settings_service_that_dies_before_it_has_saved_ends_well(
    house: House, gx: GxSimulator, event: str, later: int
) -> None:
    """What was confirmed is no longer true; it comes back so many questions later, as it was."""

    def die() -> None:
        gx.settings_down()
        when(gx, f"R{len(gx.questions) + later}", lambda: setattr(gx, "up", True))

    when(gx, event, die)
    ended_well(house, gx, house.run(at=AT, scale=0.05))


@pytest.mark.parametrize("event", POINTS)
def test_a_settings_service_that_dies_for_good_is_exit_5(
    house: House, gx: GxSimulator, event: str
) -> None:
    when(gx, event, gx.settings_down)
    result = house.run(at=AT, scale=0.02)
    failed(house, result, 5)
    assert ", confirmé" not in result.text
    assert gx.profile() != RED


def test_settings_that_die_at_each_read_are_exit_5(house: House, gx: GxSimulator) -> None:
    gx.on_question = lambda _: gx.settings_down()
    result = house.run(at=AT, limits={"GX_WORK": 2, "CONNECT_TRY": 0.5, "CONNECT_PAUSE": 0.2})
    failed(house, result, 5, "réglages du GX ne répondent plus", NOTHING)


def test_settings_that_went_away_before_the_gx_was_lost_for_good_are_exit_5(
    house: House, gx: GxSimulator
) -> None:
    through = way(house.broker.port, "nothing is cut")
    gate = Peer(lambda link, earlier: through(link, earlier) if earlier == 0 else None)
    house.secret(gxport=gate.port)
    when(gx, "R5", gx.settings_down)
    result = house.run(at=AT, limits={"GX_WORK": 2, "CONNECT_TRY": 0.5, "CONNECT_PAUSE": 0.2})
    failed(house, result, 5, "injoignable", NOTHING)
    assert gate.connections > 2


# ---- Killed anywhere -----------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("event", POINTS)
def test_the_next_run_repairs_what_a_killed_one_left(
    house: House, gx: GxSimulator, event: str, kill: signal.Signals
) -> None:
    when(gx, event, lambda: process.send_signal(kill))
    process = house.start(at=AT)
    process.communicate(timeout=30)
    assert process.returncode not in range(6), "it ended before it was killed"
    result = house.run(at=AT)
    assert result.code == 0, result.text
    assert gx.profile() == RED
    house.writes()  # none of them retained


# ---- Bounds --------------------------------------------------------------------------------------


def test_the_worst_combination_ends_within_the_sum_of_the_limits_of_at_most_5_minutes(
    house: House, gx: GxSimulator
) -> None:
    """EcoDevice dripping, web and Prowl mute; the GX late with all, and losing a connection."""
    assert LONGEST <= 300
    house.eco.reply = lambda request: drip(http(200, "{"), b" ", 0.02)
    for source in ("rte", "edf", "api", "prowl"):
        setattr(house.internet, source, lambda request: silence())
    through, mute = way(house.broker.port, "R/"), say()
    gate = Peer(lambda link, earlier: (mute, through)[earlier > 6](link, earlier))
    house.secret(use_api=True, gxport=gate.port)
    gx.up = False
    gx.refused.update(dict.fromkeys(gx.values, 99))
    when(gx, "R60", lambda: setattr(gx, "up", True))
    scale, start = 0.03, time.monotonic()
    names = ["ECODEVICE_TRY", "WEB_TIMEOUT", "PROWL_TIMEOUT"]
    limits = {name: scale * getattr(tempo_ess, name) for name in names}
    result = house.run("--today", "rouge", at=AT, scale=scale, limits=limits)
    spent = time.monotonic() - start
    assert result.code == 5, result.text
    assert scale * (30 + tempo_ess.GX_WORK / 2) < spent < scale * LONGEST + BUSY
    assert len(house.internet.asked("api.prowlapp.com")) == 1


def test_one_clock_bounds_lost_connections(house: House, gx: GxSimulator) -> None:
    """No new connection winds it up again."""
    house.secret(gxport=Peer(way(house.broker.port, "W/", again=True)).port)
    limits = {"GX_WORK": 4, "CONNECT_TRY": 0.5, "CONNECT_PAUSE": 0.2}
    start = time.monotonic()
    result = house.run(at=AT, limits=limits)
    assert 3 < time.monotonic() - start < 4 + BUSY
    failed(house, result, 5)
    assert gx.writes == []


def test_silent_settings_are_waited_for_until_it_stops(house: House, gx: GxSimulator) -> None:
    """The 60 s of a GX that starts end with the GX's part of the run."""
    gx.up = False
    start = time.monotonic()
    result = house.run(at=AT, limits={"GX_WORK": 4})
    assert 3 < time.monotonic() - start < 4 + BUSY
    failed(house, result, 5, "ses réglages ne répondent pas")


def test_the_limits_are_those_of_the_devices() -> None:
    names = (
        "GX_WORK CONNECT_TRY CONNECT_PAUSE STARTING ANSWER ASK_AGAIN READ_ONLY_WAIT PROWL_TIMEOUT"
    )
    assert [getattr(tempo_ess, name) for name in names.split()] == [150, 10, 5, 60, 5, 1, 1, 15]
    assert 3 * tempo_ess.ECODEVICE_TRY + 2 * tempo_ess.ECODEVICE_PAUSE <= 30


def test_no_two_runs_share_a_client_id(house: House, gx: GxSimulator) -> None:
    runs = [house.start(at=AT), house.start(at=AT)]
    for run in runs:
        run.communicate(timeout=60)
    assert [run.returncode for run in runs] == [0, 0]
    assert gx.profile() == RED
    house.writes()
    log = "".join(house.broker.lines)
    links = re.findall(r" as (tempo_ess\S*) \(p2, c1,", log)  # MQTT 3.1.1, clean session
    assert len(set(links)) == len(links) == 2
    published = re.findall(r"PUBLISH from tempo_ess\S* \(d\d, (q\d)", log)
    assert set(published) == {"q0"}
