"""Fixtures: the simulated house of house.py, one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house in which all is well: BLEU today, the GX on the broker, Prowl agreeing."""
    built = House(tmp_path)
    built.watch()
    yield built
    built.close()


@pytest.fixture
def test_broker(tmp_path: Path) -> Iterator[House]:
    """The same house with a plain test mosquitto in gx: nobody answers there."""
    built = House(tmp_path, simulated=False)
    built.watch()
    yield built
    built.close()
