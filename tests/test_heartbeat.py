"""Progress without a terminal: a line at least every half minute (here: every few hundredths of a second)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bench.system import heartbeat, progress
from bench.system.heartbeat import Heartbeat, Work
from bench.system.progress import bar, paused, say

BEAT = 0.05


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", BEAT)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    said: list[str] = []
    monkeypatch.setattr(progress, "_heartbeat", Heartbeat(said.append))
    yield said
    waited(lambda: not any(thread.name == "progress" for thread in threading.enumerate()))


def waited(until: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 10
    while not (reached := until()) and time.monotonic() < ends:
        time.sleep(BEAT / 10)
    return reached


def test_a_step_that_takes_long_is_told(lines: list[str]) -> None:
    with bar("trials", 3), bar("ranking filters", 40) as advance:
        advance(7)
        assert waited(lambda: len(lines) >= 2)
    assert all(
        re.fullmatch(r"ranking filters: 7/40, \d+ s (in this step|left) \(trials: 0/3\)", line) for line in lines
    )
    assert "in this step" in lines[-1]


def test_many_short_works_are_told_as_one_long_one(lines: list[str]) -> None:
    """What a method does in turn may take minutes although nothing of it takes half a minute."""
    with bar("trials", 2):
        ends = time.monotonic() + 4 * BEAT
        while time.monotonic() < ends:
            with bar("training", 2) as advance:
                advance(1)
    assert len(lines) >= 2


def test_work_without_a_bar_of_its_own_is_told(lines: list[str]) -> None:
    with bar("trials", 2) as advance:
        advance(1)
        assert waited(lambda: bool(lines))
    assert re.fullmatch(r"trials: 1/2, \d+ s (in this step|left)", lines[0])


def test_what_is_said_counts_as_a_line(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 3600)
    with bar("trials", 2) as advance:
        say("something")
        advance(1)
    assert not lines


def test_nothing_is_told_while_something_is_timed_but_soon_after(lines: list[str]) -> None:
    with bar("trials", 2):
        with paused():
            time.sleep(4 * BEAT)
            assert not lines
        assert waited(lambda: bool(lines))


def test_hidden_work_is_not_named(lines: list[str]) -> None:
    with bar("trials", 2), bar("clustering", None, hidden=True) as advance:
        advance(1)
        assert waited(lambda: bool(lines))
    assert "clustering" not in lines[0]


def test_the_words_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 30)
    now = time.monotonic()
    assert Work("fitting", 10, began=now - 20, stepped=now, done=4).told() == "fitting: 4/10, 30 s left"
    assert Work("fitting", 10, began=now - 90, stepped=now - 60, done=4).told() == "fitting: 4/10, 60 s in this step"
    assert Work("clustering", None, stepped=now, done=4).told() == "clustering: 4 steps"
    assert Work("exporting", None, stepped=now - 45).told() == "exporting, 45 s in this step"
