"""Records of large stores are read from an index in the cache; what changed is read from its file."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.leaderboard.summary import load_records
from bench.records import index
from bench.records.index import records_below
from bench.records.plain_json import is_plain_json
from bench.records.record import Record
from bench.records.rules import plain
from bench.records.store import RECORD, UnreadableRecord, read_record

COMMITTED = Path(__file__).parent.parent / "results" / "fashion-mnist" / "records"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few records that were written long ago, in a folder for which an index is kept."""
    monkeypatch.setattr(index, "LEAST", 1)
    below = tmp_path / "runs" / "records"
    for source in sorted(COMMITTED.iterdir())[:5]:
        (below / source.name).mkdir(parents=True)
        shutil.copy(source / RECORD, below / source.name / RECORD)
    settle(monkeypatch)
    return below


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SETTLED_SECONDS", -3600)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the records whose files are read."""
    names: list[str] = []

    def note(path: Path) -> Record:
        names.append(path.parent.name)
        return read_record(path)

    monkeypatch.setattr(index, "read_record", note)
    yield names


def edited(folder: Path, name: str, **fields: object) -> None:
    path = folder / name / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_second_reading_reads_no_file_and_gives_the_same(folder: Path, read: list[str]) -> None:
    first = list(records_below(folder))
    assert len(read) == len(first) == 5
    assert list(records_below(folder)) == first and len(read) == 5
    assert first == [read_record(folder / name / RECORD) for name in sorted(read)]
    assert list(list(records_below(folder))[0].config) == list(first[0].config)


def test_a_changed_a_new_and_a_deleted_record_are_seen(folder: Path, read: list[str]) -> None:
    names = sorted(path.name for path in folder.iterdir())
    list(records_below(folder))
    edited(folder, names[0], top1=0.25)
    shutil.copytree(folder / names[1], folder / "copy")
    edited(folder, "copy", fingerprint="copy")
    shutil.rmtree(folder / names[2])
    read.clear()
    now = {record.fingerprint: record for record in records_below(folder)}
    assert sorted(read) == sorted([names[0], "copy"])
    assert now[names[0]].top1 == 0.25 and "copy" in now and names[2] not in now


def test_a_change_that_keeps_size_and_time_is_seen(folder: Path) -> None:
    list(records_below(folder))
    path = next(folder.iterdir()) / RECORD
    before, text = path.stat(), path.read_text()
    path.write_text(re.sub(r'"seed": \d', '"seed": 7', text, count=1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert [record.seed for record in records_below(folder) if record.fingerprint == path.parent.name] == [7]


def test_a_file_that_was_just_written_is_read_again(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SETTLED_SECONDS", 3600)
    list(records_below(folder))
    list(records_below(folder))
    assert len(read) == 10


def test_a_record_that_became_unreadable_is_named(folder: Path) -> None:
    list(records_below(folder))
    path = next(folder.iterdir()) / RECORD
    path.write_text("{")
    with pytest.raises(UnreadableRecord, match=path.parent.name):
        list(records_below(folder))


@pytest.mark.parametrize("damage", [b"", b"no arrow file", None])
def test_a_damaged_index_is_left_alone(folder: Path, own_cache: Path, damage: bytes | None) -> None:
    first = list(records_below(folder))
    (kept,) = (own_cache / "records").iterdir()
    kept.write_bytes(kept.read_bytes()[:300] if damage is None else damage)
    assert list(records_below(folder)) == first


def test_records_of_any_text_and_shape_survive_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    monkeypatch.setattr(index, "LEAST", 1)
    settle(monkeypatch)
    base = read_record(next(COMMITTED.iterdir()) / RECORD)
    drawn = [
        dataclasses.replace(
            base, fingerprint=f"r{number}", notes=[text], model=text, config={text: {"a": [text]}, "b": 1}
        )
        for number, text in enumerate(["plain", "日本語", "a\x1bb\n", "", "\ud800"])
    ]
    for record in drawn:
        (tmp_path / record.fingerprint).mkdir()
        (tmp_path / record.fingerprint / RECORD).write_text(record.to_json(), encoding="utf-8")
    first = list(records_below(tmp_path))
    read.clear()
    assert list(records_below(tmp_path)) == first and not read


def test_small_stores_have_no_index(own_cache: Path) -> None:
    assert len(load_records(COMMITTED.parent)) < index.LEAST
    assert not (own_cache / "records").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_what_is_called_plain_needs_no_change(value: object) -> None:
    text = json.dumps({"part": value}, ensure_ascii=True)
    if is_plain_json(text):
        assert plain(json.loads(text)) == json.loads(text)


@pytest.mark.parametrize(
    "number", ["1e999", "-1E999", "1.5e+400", "NaN", "-Infinity", "9" * 301, '"\\ud800"', "[" * 60 + "]" * 60]
)
def test_what_plain_changes_or_refuses_is_not_called_plain(number: str) -> None:
    for text in (f'{{"a": {number}}}', f'{{"a":{number}}}', f"[1,{number}]", f"[\n{number}]"):
        assert not is_plain_json(text)


def test_digests_are_plain() -> None:
    text = (next(COMMITTED.iterdir()) / RECORD).read_text()
    assert is_plain_json(text) and is_plain_json('{"digest": "3e431e97d8", "small": 1e-05}')
