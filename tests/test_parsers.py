"""Every parser, on arbitrary JSON, bytes and HTTP answers: nothing is guessed, nothing escapes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests
from house import HttpPeer, api_body, edf_body, http, rte_body
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_ecodevice import ANNOUNCED, BASE_BODY, CODES, CONTRACTS, NOT_ANNOUNCED, TEMPO_BODY

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

Answer = dict[str, Any]
BLEU, BLANC, ROUGE = Couleur
DAY = "2026-11-23"
STATUSES = ["TEMPO_BLEU", "TEMPO_BLANC", "TEMPO_ROUGE", "NON_DEFINI", "TEMPO", "ROUGE"]
RTE_CODES = {"BLUE": BLEU, "WHITE": BLANC, "RED": ROUGE}
WORDS: list[Any] = [*CODES, *CONTRACTS, *ANNOUNCED, *NOT_ANNOUNCED, *RTE_CODES, DAY]
WORDS += [*range(5), 1.0, "1"]
FIELDS = ["T1_PTEC", "T1_DEMAIN", "T2_PTEC", "T2_DEMAIN", "values", DAY, f"{DAY}-fallback"]
FIELDS += ["dateJour", "codeJour", "value"]
keys = st.sampled_from(FIELDS) | st.text(max_size=3)
words = st.sampled_from(WORDS)
leaves = words | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
json_values = leaves | st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=6,
)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with these fields, each of them at times something else, or no object at all."""
    mixed = {name: field | json_values for name, field in fields.items()}
    return st.fixed_dictionaries(mixed) | json_values


day_of_edf = shaped(dateApplication=st.just(DAY) | words, statut=st.sampled_from(STATUSES))
calendar = st.lists(day_of_edf, max_size=3)
option = shaped(option=st.sampled_from(["TEMPO", "TEMPO", "EJP"]), calendrier=calendar)
edf_answers = st.fixed_dictionaries({"content": shaped(options=st.lists(option, max_size=2))})
answers = st.dictionaries(keys, words | json_values, max_size=8) | edf_answers


def edited(body: str, changes: list[tuple[int, int, bytes]]) -> bytes:
    """A good text with some bytes replaced, cut out or put in."""
    data = body.encode()
    for at, length, new in changes:
        data = data[:at] + new + data[at + length :]
    return data


GOOD = [TEMPO_BODY, BASE_BODY, edf_body({DAY: "BLANC"}), rte_body({DAY: "ROUGE"})]
GOOD += [api_body(DAY, {DAY: "BLANC"}), '{"value": 90}']
edit = st.tuples(st.integers(0, 200), st.integers(0, 9), st.binary(max_size=3))
edits = st.lists(edit, max_size=3)
bodies = st.binary() | answers.map(lambda answer: json.dumps(answer).encode())
bodies |= st.builds(edited, st.sampled_from(GOOD), edits)


def by(codes: dict[Any, Couleur], code: object) -> Couleur | None:
    return codes.get(code) if isinstance(code, str | int | float) else None


def colour(parse: Callable[[Answer], dict[str, Couleur]], answer: Answer) -> Couleur | None:
    """The day's colour; None when the answer has another shape, or does not know."""
    try:
        return parse(answer).get(DAY)
    except (LookupError, TypeError, AttributeError):
        return None


def assert_nothing_is_guessed(answer: Answer) -> None:
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
    code = values.get(DAY) if isinstance(values, dict) else None
    assert colour(parse_rte, answer) in (None, by(RTE_CODES, code))
    known, code = colour(parse_api, answer), answer.get("codeJour")
    if known is not None:
        assert not isinstance(code, bool | float)
        assert (answer["dateJour"], by({1: BLEU, 2: BLANC, 3: ROUGE}, code)) == (DAY, known)
    known = colour(parse_edf, answer)
    assert known is None or (DAY, f"TEMPO_{known}") in [
        (day.get("dateApplication"), day["statut"])
        for option in answer["content"]["options"]
        if option["option"] == "TEMPO"
        for day in option["calendrier"]
    ]


@settings(max_examples=200, deadline=None)
@given(answers)
@example({"T1_PTEC": "HPJB", "T1_DEMAIN": "ROUG", "values": {DAY: "RED"}})
@example({"dateJour": DAY, "codeJour": 3})
@example({"dateJour": DAY, "codeJour": True})
@example({"values": {DAY: ["RED"]}, "T1_PTEC": [], "T1_DEMAIN": {}})
def test_arbitrary_json_gives_a_colour_only_when_it_says_so(answer: Answer) -> None:
    assert_nothing_is_guessed(answer)


@settings(max_examples=200, deadline=None)
@given(bodies)
@example(b'{"a":' * 100_000)
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


CHUNKED = '7\r\n{"a":1}\r\n0\r\n\r\n'
WHOLE = [http(200, CHUNKED, "Transfer-Encoding: chunked"), http(302, "", "Location: http://[::1")]
WHOLE += [http(200, TEMPO_BODY, "Content-Encoding: gzip"), http(200, TEMPO_BODY, length=True)]
WHOLE += [http(200, TEMPO_BODY, f"Content-Length: {length}") for length in (-1, 5, "9" * 30)]
WHOLE += [http(200, TEMPO_BODY, "Set-Cookie: a=b; expires=never; max-age=x", " folded")]
whole = st.sampled_from([answer.decode() for answer in WHOLE])
raw_answers = st.binary(max_size=200) | st.builds(edited, whole, edits)


def test_an_arbitrary_http_answer_is_an_object_or_no_answer() -> None:
    sent = [b""]
    peer = HttpPeer(lambda request: sent[0])
    session = requests.Session()
    session.trust_env = False

    @settings(max_examples=40, deadline=None)
    @given(raw_answers)
    @example(http(200, TEMPO_BODY))
    def exchange(answer: bytes) -> None:
        sent[0] = answer
        with suppress(NoAnswer):
            result = fetch(f"http://{peer.address}/", time.monotonic() + 20, session)
            assert isinstance(result, dict)

    exchange()
    peer.close()
