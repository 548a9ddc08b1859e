"""Whatever all the peers answer, a run ends as it should, and shows nothing raw of theirs."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from gx_simulator import DAY, SN
from house import RECORDED, WEB, House, http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tempo_ess import Exit

TOMORROW = "2026-11-24"
GOOD: list[Any] = [RECORDED, {"value": -7}]
for source in WEB.values():
    target = source.target.format(today="2026-11-23", tomorrow=TOMORROW)
    good = source.body(target, {TOMORROW: "ROUGE"})
    GOOD.append(json.loads(good))


def end_well(house: House, answer: bytes, payload: bytes) -> None:
    """Runs with this HTTP answer of the meter, the web and Prowl, and this MQTT one of the GX."""

    def say_day(_path: str) -> None:
        house.gx.client.publish(f"N/{SN}/{DAY}", payload)

    house.secret(use_api=True)
    for source in WEB.values():
        setattr(house.internet, source.attribute, lambda request: answer)
    house.eco.reply = house.internet.prowl = lambda request: answer
    house.gx.mute.add(DAY)
    house.gx.on_question = say_day
    limits = {"ECODEVICE_PAUSE": 0.0, "READ_ONLY_WAIT": 0.05}
    for imposed in ([], ["--today", "bleu"]):  # the second run reaches the GX in any case
        result = house.run("--verbose", *imposed, at="2026-11-23T20:05", limits=limits)
        assert result.code in (Exit.RIGHT, Exit.COLOUR)
        for text in (result.text, *[push["description"] for push in house.internet.pushes]):
            said = text.replace("\n", "")
            assert not [char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Cs")]
            assert "A" * 41 not in said


BAD = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\N{RIGHT-TO-LEFT OVERRIDE}" + "A" * 300
HOSTILE = {
    "escaped": http(200, json.dumps({"T1_PTEC": BAD, "T1_DEMAIN": BAD, "values": {BAD: BAD}})),
    "raw": http(200, f'{{"T1_PTEC":"{BAD}","dateJour":"{BAD}","values":"{BAD}"}}'),
    "long": http(200, json.dumps({"T1_PTEC": "A" * 300})),
    "surrogate": http(200, r'{"T1_PTEC": "\ud800", "codeJour": 1e999}'),
    "headers": http(404, BAD, f"Location: {BAD}", f"Set-Cookie: a={BAD}; expires={BAD}"),
    "status line": f"HTTP/1.1 500 {BAD}\r\n{BAD}: {BAD}\r\n\r\n".encode(),
    "no HTTP at all": BAD.encode(),
    "too deep": http(200, '{"a":' * 10_000),
    "too many digits": http(200, '{"T1_PTEC": ' + "9" * 5000 + "}"),
    "not gzip": http(200, "{}", "Content-Encoding: gzip"),
    "a redirect to nowhere": http(302, "", "Location: http://[::1"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_run_survives_a_hostile_answer_and_shows_nothing_raw_of_it(
    house: House, answer: bytes
) -> None:
    end_well(house, answer, BAD.encode())


# ---- Arbitrary answers ---------------------------------------------------------------------------

words = st.sampled_from(["HPJB", "HCJR", "BLEU", "ROUG", "RED", "TEMPO_ROUGE", TOMORROW, 1, 3, 3.0])
leaves = words | st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def spoilt(value: Any) -> st.SearchStrategy[Any]:
    """A good JSON value with anything in the place of some of its parts, or of the whole."""
    whole: st.SearchStrategy[Any] = st.just(value)
    if isinstance(value, dict):
        whole = st.fixed_dictionaries({name: spoilt(part) for name, part in value.items()})
    elif isinstance(value, list):
        whole = st.tuples(*(spoilt(part) for part in value)).map(list)
    return st.integers(0, 4).flatmap(lambda choice: whole if choice else anything)


def edited(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """A text with some bytes replaced, cut out or put in."""
    for at, length, new in changes:
        text = text[:at] + new + text[at + length :]
    return text


bodies = st.sampled_from(GOOD).flatmap(spoilt).map(lambda value: json.dumps(value).encode())
chunked = http(200, '7\r\n{"a":1}\r\n0\r\n\r\n', "Transfer-Encoding: chunked")
wholes = bodies.map(lambda body: http(200, body)) | st.just(chunked)
edits = st.lists(st.tuples(st.integers(0, 250), st.integers(0, 9), st.binary(max_size=3)))
answers = wholes | st.builds(edited, wholes, edits) | st.binary()
one_house = [HealthCheck.function_scoped_fixture]  # for all the runs


@settings(max_examples=50, deadline=None, suppress_health_check=one_house)
@given(answer=answers, payload=bodies | st.binary())
def test_a_run_survives_arbitrary_answers(house: House, answer: bytes, payload: bytes) -> None:
    end_well(house, answer, payload)
