"""Every parser, on arbitrary JSON, bytes and HTTP answers: nothing is guessed, nothing escapes."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

import requests
from house import HttpPeer, api_body, edf_body, http, rte_body
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_ecodevice import (
    ANNOUNCED,
    BASE_BODY,
    CODES,
    CONTRACTS,
    NOT_ANNOUNCED,
    TEMPO_BODY,
)

from tempo_ess import (
    Couleur,
    Failure,
    NoAnswer,
    fetch,
    json_object,
    parse_api,
    parse_ecodevice,
    parse_edf,
    parse_rte,
    value_in,
)

BLEU, BLANC, ROUGE = Couleur
DAY = date(2026, 11, 23)
STATUSES = ["TEMPO_BLEU", "TEMPO_BLANC", "TEMPO_ROUGE", "NON_DEFINI", "TEMPO", "ROUGE"]
WORDS: list[Any] = [
    *CODES,
    *CONTRACTS,
    *ANNOUNCED,
    *NOT_ANNOUNCED,
    "BLUE",
    "WHITE",
    "RED",
    str(DAY),
]
WORDS += [*range(5), 1.0, "1"]
FIELDS = [
    "T1_PTEC",
    "T1_DEMAIN",
    "T2_PTEC",
    "T2_DEMAIN",
    "values",
    str(DAY),
    f"{DAY}-fallback",
    "dateJour",
    "codeJour",
]
keys = st.sampled_from([*FIELDS, "value"]) | st.text(max_size=3)
words = st.sampled_from(WORDS)
leaves = words | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
json_values = leaves | st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=6,
)
calendars = st.lists(
    st.fixed_dictionaries({"dateApplication": words | json_values, "statut": words | json_values})
    | st.fixed_dictionaries(
        {"dateApplication": st.just(str(DAY)), "statut": st.sampled_from(STATUSES) | json_values}
    )
    | json_values,
    max_size=3,
)
edf_options = st.fixed_dictionaries(
    {
        "option": st.sampled_from(["TEMPO", "TEMPO", "EJP"]) | json_values,
        "calendrier": calendars | json_values,
    }
)
edf_answers = st.fixed_dictionaries(
    {
        "content": st.fixed_dictionaries(
            {"options": st.lists(edf_options | json_values, max_size=2) | json_values}
        )
        | json_values
    }
)
answers = st.dictionaries(keys, words | json_values, max_size=8) | edf_answers
WEB_BODIES = [
    edf_body({str(DAY): "BLANC"}),
    rte_body({str(DAY): "ROUGE"}),
    api_body(str(DAY), {str(DAY): "BLANC"}),
]
edits = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 9), st.binary(max_size=3)), min_size=1, max_size=3
)


def edited(body: str, changes: list[tuple[int, int, bytes]]) -> bytes:
    """A good body with some bytes replaced, cut out or put in."""
    data = body.encode()
    for at, length, new in changes:
        data = data[:at] + new + data[at + length :]
    return data


bodies = st.binary() | answers.map(lambda answer: json.dumps(answer).encode())
bodies |= st.builds(
    edited, st.sampled_from([TEMPO_BODY, BASE_BODY, *WEB_BODIES, '{"value": 90}']), edits
)


RTE_WORDS = {"BLUE": BLEU, "WHITE": BLANC, "RED": ROUGE}


def by(codes: dict[Any, Couleur], code: object) -> Couleur | None:
    """The colour of a code, if it is one."""
    return codes.get(code) if isinstance(code, str | int | float) else None


def edf_day(colour: Couleur) -> dict[str, str]:
    """How EDF says this colour."""
    return {"dateApplication": str(DAY), "statut": f"TEMPO_{colour}"}


def colour(
    parse: Callable[[dict[str, Any]], dict[str, Couleur]], answer: dict[str, Any]
) -> Couleur | None:
    """The day's colour; None when the answer has another shape, or does not know."""
    try:
        return parse(answer).get(str(DAY))
    except (LookupError, TypeError, AttributeError):
        return None


def assert_nothing_is_guessed(answer: dict[str, Any]) -> None:
    """Every parser gives what the answer says in so many words, or does not know."""
    for ecoinput in (1, 2):
        ptec, demain = answer.get(f"T{ecoinput}_PTEC"), answer.get(f"T{ecoinput}_DEMAIN")
        try:
            tempo = parse_ecodevice(answer, ecoinput)
        except NoAnswer:
            assert not isinstance(ptec, str) or ptec not in {*CODES, *CONTRACTS}
        except Failure:
            assert ptec in [*CONTRACTS]
        else:
            tomorrow = ANNOUNCED.get(demain) if isinstance(demain, str) else None
            assert tempo == CODES[str(ptec)]._replace(demain=tomorrow)
    values = answer.get("values")
    code = values.get(str(DAY)) if isinstance(values, dict) else None
    assert colour(parse_rte, answer) in (None, by(RTE_WORDS, code))
    known, code = colour(parse_api, answer), answer.get("codeJour")
    assert known is None or (answer["dateJour"], by({1: BLEU, 2: BLANC, 3: ROUGE}, code)) == (
        str(DAY),
        known,
    )
    assert known is None or not isinstance(code, bool | float)
    known = colour(parse_edf, answer)
    assert known is None or edf_day(known) in [
        {"dateApplication": day.get("dateApplication"), "statut": day["statut"]}
        for option in answer["content"]["options"]
        if option["option"] == "TEMPO"
        for day in option["calendrier"]
    ]


@settings(max_examples=200, deadline=None)
@given(answers)
@example(
    {
        "T1_PTEC": "HPJB",
        "T1_DEMAIN": "ROUG",
        "values": {str(DAY): "RED"},
        "dateJour": str(DAY),
        "codeJour": 3,
    }
)
@example({"dateJour": str(DAY), "codeJour": True})
@example({"values": {str(DAY): ["RED"]}, "T1_PTEC": [], "T1_DEMAIN": {}})
def test_arbitrary_json_gives_a_colour_only_when_it_says_so(answer: dict[str, Any]) -> None:
    assert_nothing_is_guessed(answer)


@settings(max_examples=200, deadline=None)
@given(bodies)
@example(b'{"a":' * 100_000)
@example(b"[" * 100_000)
@example(b'{"T1_PTEC": ' + b"9" * 5000 + b"}")
@example(b'{"T1_PTEC": "\\ud800", "codeJour": 1e999, "value": NaN}')
def test_arbitrary_bytes_are_an_object_or_a_value_error(body: bytes) -> None:
    try:
        answer = json_object(body)
    except ValueError:
        return
    assert isinstance(answer, dict)
    assert_nothing_is_guessed(answer)


@settings(max_examples=200, deadline=None)
@given(bodies | json_values.map(lambda value: json.dumps({"value": value}).encode()))
@example(b"")
@example(b'{"value": 1e999}')
@example(b'{"value": -Infinity}')
@example(b'{"value": ' + b"9" * 400 + b"}")
def test_an_arbitrary_payload_is_a_number_or_no_answer(payload: bytes) -> None:
    number, text = value_in(payload, False), value_in(payload, True)
    if number is not None:
        assert type(number) in (int, float)
        assert math.isfinite(float(number))
    assert text is None or (isinstance(text, str) and number is None)
    if number is not None or text is not None:
        assert json_object(payload)["value"] == (text if number is None else number)


def chunked(body: str) -> bytes:
    """A chunked answer, in chunks of 7 bytes."""
    pieces = [body[at : at + 7].encode() for at in range(0, len(body), 7)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return http(200, coded, "Transfer-Encoding: chunked")


def lines(first: bytes, headers: list[bytes], body: bytes) -> bytes:
    """An answer from its parts."""
    return b"\r\n".join([first, *headers, b"", body])


statuses = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 4 + [b"HTTP/1.0 200", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Up"]
)
statuses |= st.sampled_from(
    [b"HTTP/1.1 302 Found", b"HTTP/1.1 204 No", b"HTTP/9 200", b"ICY 200 OK", b"HTTP/1.1 -1 x"]
)
statuses |= st.binary(max_size=12).map(lambda junk: b"HTTP/1.1 " + junk)
headers = st.sampled_from(
    [b"Content-Length: " + text for text in (b"5", b"-1", b"\xb2", b"9" * 30)]
)
headers |= st.sampled_from(
    [b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: br, gzip"]
)
headers |= st.sampled_from(
    [b"Location: http://[::1", b"Set-Cookie: a=b; expires=never; max-age=x", b" folded"]
)
headers |= st.binary(max_size=20)
contents = (
    bodies
    | bodies.map(gzip.compress)
    | bodies.map(lambda body: chunked(body.decode("latin-1"))[60:])
)
raw_answers = st.binary(max_size=200) | st.builds(
    lines, statuses, st.lists(headers, max_size=3), contents
)


def lan_session() -> requests.Session:
    """No proxy, whatever the environment says."""
    session = requests.Session()
    session.trust_env = False
    return session


def test_an_arbitrary_http_answer_is_an_object_or_no_answer() -> None:
    sent = [b""]
    peer = HttpPeer(lambda request: sent[0])

    @settings(max_examples=40, deadline=None)
    @given(raw_answers)
    @example(http(200, TEMPO_BODY))
    def exchange(answer: bytes) -> None:
        sent[0] = answer
        with suppress(NoAnswer):
            assert isinstance(
                fetch(f"http://{peer.address}/", time.monotonic() + 20, lan_session()), dict
            )

    exchange()
    peer.close()
