"""Records sent to MLflow while trials go on, with a stand-in for MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from bench.cli.delivered import hint
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import Undelivered
from bench.tracking import delivery
from bench.tracking.delivery import PATIENCE, Delivery


def record(fingerprint: str, day: int = 1) -> Record:
    return Record(
        fingerprint=fingerprint, status="ok", method="kse", setting="kse(G=4)", model="resnet20", dataset="ramps",
        weights="shipped", seed=0, budget_epochs=1.0, device="cpu", started_at=f"2026-01-0{day}T00:00:00+00:00",
    )  # fmt: skip


class StandIn:
    """Keeps what is sent to it, and raises `error` where it has one."""

    sent: ClassVar[list[str]]
    boards: ClassVar[int]
    error: ClassVar[BaseException | None]

    def __init__(self, root: Path, patience: float) -> None:
        assert patience == PATIENCE
        (root / "mlflow.db").touch()

    def log(self, record: Record, folder: Path, *, settled: bool = True) -> bool:
        if StandIn.error:
            raise StandIn.error
        assert not settled and folder.name == record.fingerprint
        self.sent.append(record.fingerprint)
        return True

    def settle(self) -> None:
        StandIn.boards += 1


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(delivery, "Tracker", StandIn)
    StandIn.sent, StandIn.boards, StandIn.error = [], 0, None
    return Store(tmp_path)


def test_each_record_is_sent_once_and_the_board_at_most_once_a_minute(store: Store) -> None:
    first = Delivery(store)
    for name in "aab":
        first.send(record(name))
    assert StandIn.sent == ["a", "b"] and StandIn.boards == 1
    first.finish()
    first.finish()
    assert StandIn.boards == 2

    again = Delivery(store)
    again.send(record("a"))
    again.finish()
    assert StandIn.sent == ["a", "b"] and StandIn.boards == 2
    again.send(record("a", day=2))
    assert StandIn.sent == ["a", "b", "a"], "the trial was run again"


def test_records_are_sent_again_to_a_database_that_is_new_or_at_another_address(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Delivery(store).send(record("a"))
    (store.root / "mlflow.db").unlink()
    Delivery(store).send(record("a"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://board.example")
    Delivery(store).send(record("a"))
    assert StandIn.sent == ["a", "a", "a"]


@pytest.mark.parametrize("error", [Undelivered("MLflow is away", Path("runs")), OSError(28, "disk full")])
def test_a_failure_is_one_warning_and_ends_the_delivery(
    error: Exception, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sending = Delivery(store)
    StandIn.error = error
    sending.send(record("a"))
    StandIn.error = None
    sending.send(record("b"))
    sending.finish()
    assert capsys.readouterr().err == f"warning: {error}\n"
    assert sending.failed and not StandIn.sent and not StandIn.boards
    Delivery(store).send(record("a"))
    assert StandIn.sent == ["a"]


def test_a_mark_that_is_damaged_is_no_mark(store: Store) -> None:
    Delivery(store).send(record("a"))
    (mark,) = (store.root / ".delivered").glob("*/a")
    mark.write_bytes(b"\xff\xfe")
    Delivery(store).send(record("a"))
    assert StandIn.sent == ["a", "a"]


def test_ctrl_c_is_no_failed_delivery(store: Store) -> None:
    sending = Delivery(store)
    StandIn.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sending.send(record("a"))
    assert not sending.failed and not list(store.root.glob(".delivered/*/*"))


def test_the_command_line_says_where_records_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Store(store.root / "with space")
    sending = Delivery(odd)
    assert hint(sending) == f"`bench ui --store '{odd.root}'` shows them"
    sending.failed = True
    assert hint(sending) == f"`bench sync --store '{odd.root}'` delivers them to MLflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@board.example")
    assert hint(Delivery(odd)) == "MLflow at https://board.example shows them"
