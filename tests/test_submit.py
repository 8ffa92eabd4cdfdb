"""`bench submit` and the file it writes: complete, the same each time, and refused whole if anything in it is odd."""

from __future__ import annotations

import json
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.records.store import MODEL, PREDICTIONS, RECORD, Store
from bench.system.errors import BenchError
from bench.verifying import archive as archives
from bench.verifying.archive import MANIFEST, unpacked, write_archive
from bench.verifying.findings import Outcome
from bench.verifying.opening import Materials, Options

from .small_runs import finished as finished
from .small_runs import plan as plan
from .small_runs import store as store
from .submissions import edit, home, rewrite, verified, wrong

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


@pytest.fixture
def packed(store: Store, tmp_path: Path) -> Path:
    """A submission of one trial."""
    folder = home(store, "tic")
    names = (RECORD, MODEL, PREDICTIONS, "layers.csv", "classes.csv", "timings.csv")
    write_archive({f"records/{folder.name}/{name}": folder / name for name in names}, tmp_path / "mine.zip")
    return tmp_path / "mine.zip"


def refusal(path: Path) -> str:
    with pytest.raises(BenchError) as refused, unpacked(path):
        pass
    told = str(refused.value)
    assert told.startswith(f"{path}: not a submission (") and "\n" not in told
    assert told.endswith("expected a file from `bench submit`")
    return told


def test_what_is_packed_verifies_elsewhere(
    store: Store, image_folder: Path, tmp_path: Path, bench_command: Say
) -> None:
    out = tmp_path / "mine.zip"
    said = bench_command("submit", store.root, "--out", out)
    assert said.code == 0 and said.out == f"{out}: 3 trials, {out.stat().st_size:,} bytes\n"
    with zipfile.ZipFile(out) as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert names == {MANIFEST, RECORD, MODEL, PREDICTIONS, "layers.csv", "classes.csv", "timings.csv"}
    said = bench_command("verify", out, "--dataset", f"folder:{image_folder}")
    assert said.code == 0 and "3 trials: 3 verify." in said.out


def test_equal_trials_give_equal_archives(store: Store, tmp_path: Path, bench_command: Say) -> None:
    for name in ("one.zip", "two.zip"):
        assert bench_command("submit", store.root, "--out", tmp_path / name).code == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_settings_are_chosen_as_on_the_board(store: Store, tmp_path: Path, bench_command: Say) -> None:
    out = tmp_path / "mine.zip"
    assert bench_command("submit", store.root, "--out", out, "--method", "tic").out.startswith(f"{out}: 1 trial, ")
    with unpacked(out) as folder:
        assert [record.method for record in Store(folder).records()] == ["tic"]
    assert "no such method" in bench_command("submit", store.root, "--out", out, "--method", "tick").mistake


def test_a_trial_without_its_artifact_is_left_out(store: Store, tmp_path: Path, bench_command: Say) -> None:
    (home(store, "tic") / MODEL).unlink()
    said = bench_command("submit", store.root, "--out", tmp_path / "mine.zip")
    assert "2 trials" in said.out and "left out: 1 trial without its artifact or predictions" in said.err
    told = bench_command("submit", store.root, "--out", tmp_path / "mine.zip", "--method", "tic").mistake
    assert told.endswith("none of 1 trials has its artifact and predictions")
    assert "there is no such store" in bench_command("submit", tmp_path / "no", "--out", tmp_path / "x.zip").mistake


def test_a_lie_in_a_submission_is_found(store: Store, image_folder: Path, tmp_path: Path, bench_command: Say) -> None:
    folder = edit(home(store, "tic"), loss=0.01)
    assert bench_command("submit", store.root, "--out", tmp_path / "mine.zip", "--method", "tic").code == 0
    found = verified(tmp_path / "mine.zip", Materials(Options(dataset=f"folder:{image_folder}")))
    assert found.outcome is Outcome.DIFFERS and wrong(found).keys() == {"loss"}
    edit(folder, top1=0.99)
    told = bench_command("submit", store.root, "--out", tmp_path / "mine.zip").mistake
    assert "top-1 is 0.99 in record.json" in told


def test_a_submission_must_hold_the_artifact(store: Store, image_folder: Path, tmp_path: Path) -> None:
    folder = home(store, "tic")
    write_archive({f"records/{folder.name}/{RECORD}": folder / RECORD}, tmp_path / "mine.zip")
    found = verified(tmp_path / "mine.zip", Materials(Options(dataset=f"folder:{image_folder}")))
    assert wrong(found) == {MODEL: ("", "the file is missing")}


def with_entry(name: str, mode: int = stat.S_IFREG | 0o644, content: bytes = b"x") -> Any:
    """Adds an entry, in the manifest too."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED

    def change(known: str, old: bytes) -> Iterator[tuple[Any, bytes]]:
        if known != MANIFEST:
            yield known, old
            return
        manifest = json.loads(old)
        manifest["files"][name] = next(iter(manifest["files"].values()))
        yield MANIFEST, json.dumps(manifest).encode()
        yield entry, content

    return change


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "records/../../evil.py",
        "records/../record.json",
        "/etc/record.json",
        "C:\\record.json",
        "records/..\\..\\x/record.json",
        "records/f0/../record.json",
        "records/f0/sub/record.json",
        "records/f0/code.py",
        "records/f0/model.pkl",
        "records/f0/",
        "records/.hidden/record.json",
    ],
)
def test_no_other_name_is_unpacked(name: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = rewrite(packed, tmp_path / "evil.zip", with_entry(name))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = sorted(tmp_path.rglob("*"))
    told = refusal(evil)
    assert "expected submission.json and records/FINGERPRINT/" in told or "no '.' in front" in told
    assert sorted(tmp_path.rglob("*")) == before


def test_links_are_refused(packed: Path, tmp_path: Path) -> None:
    change = with_entry("records/f0/record.json", stat.S_IFLNK | 0o777, b"/etc/passwd")
    assert "not a plain file" in refusal(rewrite(packed, tmp_path / "link.zip", change))


def test_bombs_are_refused(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = with_entry("records/f0/layers.csv", content=bytes(40_000_000))
    monkeypatch.setattr(archives, "UNSUSPICIOUS", 10_000_000)
    assert "unpacks to" in refusal(rewrite(packed, tmp_path / "bomb.zip", bomb))
    monkeypatch.setitem(archives.LARGEST, "layers.csv", 1000)
    assert "expected at most 1,000" in refusal(rewrite(packed, tmp_path / "large.zip", bomb))
    monkeypatch.setattr(archives, "MOST_TRIALS", 0)
    assert "7 entries" in refusal(packed)


def changed(name: str, content: bytes | None) -> Callable[[str, bytes], Iterable[tuple[Any, bytes]]]:
    """Gives the file of this name another content, or leaves it out."""

    def change(known: str, old: bytes) -> Iterable[tuple[Any, bytes]]:
        if not known.endswith(name):
            return [(known, old)]
        return [] if content is None else [(known, content)]

    return change


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (RECORD, b"{}", "it was changed after it was packed"),
        (MODEL, b"", "it was changed after it was packed"),
        (MODEL, None, "is missing"),
        (MANIFEST, None, "it has no submission.json"),
        (MANIFEST, b"{", "not a submission"),
        (MANIFEST, b"[" * 100_000, "nested too deeply"),
        (MANIFEST, b'{"format": "other", "files": {}}', "submission.json: format"),
        (MANIFEST, b'{"format": "cnn-compression-bench submission 1", "files": {}}', "is not in its manifest"),
        (MANIFEST, b"\xff\xfe", "not a submission"),
    ],
)
def test_an_archive_that_was_changed_is_refused(
    name: str, content: bytes | None, told: str, packed: Path, tmp_path: Path
) -> None:
    assert told in refusal(rewrite(packed, tmp_path / "changed.zip", changed(name, content)))


def test_files_that_are_no_archives_are_refused(packed: Path, tmp_path: Path, bench_command: Say) -> None:
    content = packed.read_bytes()
    for number, broken in enumerate((b"", b"PK", content[:-10], content[: len(content) // 2], b"x" * 1000)):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(broken)
        refusal(path)
        assert "not a submission" in bench_command("verify", path).mistake


def test_a_name_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    def change(known: str, old: bytes) -> list[tuple[Any, bytes]]:
        return [(known, old), (known, old)] if known.endswith(RECORD) else [(known, old)]

    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = rewrite(packed, tmp_path / "twice.zip", change)
    assert "twice" in refusal(twice)


def test_nothing_is_left_of_an_archive_that_could_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_archive({"records/f0/record.json": tmp_path / "missing"}, tmp_path / "mine.zip")
    assert not list(tmp_path.glob("*.zip*")) and not list(tmp_path.glob(".*"))
