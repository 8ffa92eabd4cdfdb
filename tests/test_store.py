import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.store import Store, StoreError, read_record, write_record


def make_record(fingerprint: str = "f0", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "fingerprint": fingerprint,
        "status": "ok",
        "method": "tic",
        "setting": "tic(k=64)",
        "model": "resnet20",
        "dataset": "fashion-mnist",
        "weights": "shipped",
        "seed": 0,
        "budget_epochs": 1.0,
        "device": "cpu",
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    return Record(**{**values, **changes})


def put(store: Store, record: Record) -> None:
    with store.prepare(record.fingerprint) as folder:
        write_record(record, folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def scratch(store: Store) -> list[str]:
    return [path.name for path in (store.root / ".partial").glob("*") if path.is_dir()]


def test_what_is_put_is_got(store: Store) -> None:
    record = make_record()
    with store.prepare("f0") as folder:
        (folder / "layers.csv").write_text("layer\n")
        write_record(record, folder)
        assert store.get("f0") is None
    assert store.get("f0") == record
    assert (store.folder("f0") / "layers.csv").read_text() == "layer\n"
    assert scratch(store) == []


def test_an_empty_store_has_no_records(store: Store) -> None:
    assert store.get("f0") is None
    assert store.records() == []
    assert not store.root.exists()


def test_records_come_in_the_order_they_were_measured(store: Store) -> None:
    put(store, make_record("a", started_at="2026-01-02T00:00:00+00:00"))
    put(store, make_record("b", started_at="2026-01-01T00:00:00+00:00"))
    assert [record.fingerprint for record in store.records()] == ["b", "a"]


def test_a_later_trial_replaces_a_failed_one(store: Store) -> None:
    with store.prepare("f0") as folder:
        write_record(make_record(status="failed", error="no memory"), folder)
        (folder / "leftover.png").write_bytes(b"")
    put(store, make_record())
    assert store.get("f0") == make_record()
    assert not (store.folder("f0") / "leftover.png").exists()
    assert scratch(store) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_trial_leaves_the_store_as_it_was(store: Store, error: type[BaseException]) -> None:
    put(store, make_record())
    with pytest.raises(error), store.prepare("f0") as folder:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error
    assert store.get("f0") == make_record()
    assert scratch(store) == []


def test_a_folder_without_a_record_is_not_committed(store: Store) -> None:
    with pytest.raises(RuntimeError, match="without writing"), store.prepare("f0"):
        pass
    assert not store.folder("f0").exists()


def test_killed_runs_are_tidied_up_and_running_ones_left_alone(store: Store) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from bench.records.store import Store\n"
        "with Store(Path(sys.argv[1])).prepare('dead') as folder: os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert len(scratch(store)) == 1
    with store.prepare("alive") as folder:
        store.check_writable()
        assert scratch(store) == [folder.name]
        write_record(make_record("alive"), folder)


def test_a_claim_is_one_runs_and_ends_with_it(store: Store) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.records.store import Store\n"
        "with Store(Path(sys.argv[1])).claim('f0') as ours: print(ours, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with store.claim("f0") as ours, store.claim("f1") as another:
            assert not ours and another
        other.kill()
    with store.claim("f0") as ours:
        assert ours
    assert list((store.root / ".claims").iterdir()) == []


def test_a_record_that_was_being_replaced_at_a_kill_goes_back(store: Store) -> None:
    put(store, make_record())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owner = f"{os.uname().nodename}.{dead.pid}"
    store.folder("f0").rename(store.root / ".partial" / f"f0@{owner}@replaced")
    store.check_writable()
    assert store.get("f0") == make_record()
    assert scratch(store) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fingerprint": "f0"}', "\udcff"])
def test_a_corrupt_record_is_named_in_one_line(store: Store, content: str) -> None:
    put(store, make_record())
    path = store.folder("f0") / "record.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    for read in (store.records, lambda: store.get("f0"), lambda: read_record(path)):
        with pytest.raises(StoreError, match=r"record\.json: not a record") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(StoreError, match="a file stands where a folder should; choose another folder$"):
            Store(root).check_writable()


def test_too_little_space_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_000_000))
    store.check_writable(12_000_000)
    with pytest.raises(StoreError, match=r"12 MB free, 13 MB needed; .*choose another folder$"):
        store.check_writable(12_000_001)


class SafetensorError(Exception):
    """As safetensors raises it: the system's number is in the words only."""


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space (os error 28)")],
)
def test_a_full_disk_is_the_stores_fault(store: Store, error: Exception) -> None:
    with pytest.raises(StoreError, match="disk full; free some space or choose another folder"), store.prepare("f0"):
        raise error
    assert scratch(store) == []


def test_a_path_in_the_store_is_the_stores_fault_and_others_are_not(store: Store) -> None:
    with pytest.raises(StoreError, match="permission denied"), store.prepare("f0") as folder:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "layers.csv"))
    with pytest.raises(PermissionError), store.prepare("f0"):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/image.jpeg")


def test_the_store_loads_neither_torch_nor_pandas() -> None:
    code = "import bench.records.store, sys; sys.exit(bool({'torch', 'pandas', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
