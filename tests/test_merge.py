"""`bench merge`: everything is kept, once; what contradicts is refused; a kill leaves whole records."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.records import merging
from bench.records.agreement import COMPARED, differences
from bench.records.merging import Differing, join, merge, plan_merge
from bench.records.record import FIGURES, Record
from bench.records.store import Store, StoreError, write_record

Say = Callable[..., Any]


def made(fingerprint: str = "f0", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "fingerprint": fingerprint, "status": "ok", "method": "tic", "setting": "tic(k=64)", "model": "resnet20",
        "dataset": "fashion-mnist", "weights": "shipped", "seed": 0, "budget_epochs": 1.0, "device": "cpu",
        "top1": 0.9134, "loss": 0.3, "artifact_bytes": 5, "latency_ms_p50": 1.5, "duration_seconds": 9.0,
        "started_at": "2026-01-02T00:00:00+00:00",
    }  # fmt: skip
    return Record(**values | changes)


def failed(fingerprint: str = "f0", **changes: Any) -> Record:
    return made(fingerprint, status="failed", error="no memory", top1=None, loss=None, artifact_bytes=None, **changes)


def put(root: Path, *records: Record) -> Path:
    for record in records:
        with Store(root).prepare(record.fingerprint) as folder:
            write_record(record, folder)
            (folder / "layers.csv").write_text(f"layer,{root.name}\n")
            if record.status == "ok":
                (folder / "model.safetensors").write_bytes(b"model")
                (folder / "predictions.safetensors").write_bytes(b"predictions")
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def joined(*roots: Path, into: Path, keep: Any = None) -> dict[str, Record]:
    join(roots, into, keep)
    return {record.fingerprint: record for record in Store(into).records()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


A, B, C, INTO = Path("a"), Path("b"), Path("c"), Path("into")


def test_every_record_is_there_with_its_files_and_the_sources_are_as_they_were(here: Path) -> None:
    put(A, made("f0"), made("f1"))
    put(B, made("f2"), failed("f3"))
    before = content(A), content(B)
    assert set(joined(A, B, into=INTO)) == {"f0", "f1", "f2", "f3"}
    assert (content(A), content(B)) == before
    assert content(INTO) == {**before[0], **before[1]}
    planned = plan_merge([A, B], INTO)
    assert planned.copies == [] and merge(planned).copied == 0, "again, there is nothing to do"


def test_a_store_with_records_of_its_own_keeps_them(here: Path) -> None:
    put(INTO, made("f0"), made("f9"))
    own = content(INTO)
    put(A, made("f0"), made("f1"))
    assert set(joined(A, into=INTO)) == {"f0", "f1", "f9"}
    assert own.items() <= content(INTO).items()


def test_equal_figures_are_kept_once_the_earlier(here: Path) -> None:
    late = made(started_at="2026-01-05T00:00:00+00:00", latency_ms_p50=2.0, versions={"torch": "9"}, notes=["noisy"])
    put(A, late)
    put(B, made(top1=0.9141, loss=0.3001))
    (step,) = plan_merge([A, B], INTO).steps
    assert step.kept.store == B and step.twice
    assert joined(A, B, into=INTO)["f0"].top1 == 0.9141
    assert joined(A, into=Path("other"))["f0"] == late
    assert joined(B, into=Path("other"))["f0"] == late, "what is there is not replaced by what is no better"


def test_times_are_compared_and_not_their_text(here: Path) -> None:
    put(A, made(started_at="2026-01-02T00:30:00+00:00", latency_ms_p50=2.0))
    put(B, made(started_at="2026-01-02T01:00:00+01:00", latency_ms_p50=3.0))
    assert joined(A, B, into=INTO)["f0"].latency_ms_p50 == 3.0


@pytest.mark.parametrize("order", [(A, B), (B, A)])
def test_a_measured_trial_goes_before_a_failed_one(order: tuple[Path, Path], here: Path) -> None:
    put(A, failed(started_at="2026-01-01T00:00:00+00:00"))
    put(B, made())
    assert joined(*order, into=INTO)["f0"].status == "ok"
    put(C, failed())
    assert joined(B, into=C)["f0"].status == "ok"
    assert joined(A, into=C)["f0"].status == "ok", "and a failed one never replaces it"
    assert (C / "records/f0/layers.csv").read_text() == "layer,b\n"


def test_a_record_with_its_artifact_goes_before_one_that_lost_it(here: Path) -> None:
    put(A, made(started_at="2026-01-01T00:00:00+00:00"))
    put(B, made())
    (A / "records/f0/model.safetensors").unlink()
    assert plan_merge([A, B], INTO).steps[0].kept.store == B
    (A / "records/f0/model.safetensors").write_bytes(b"mod")  # half of it
    assert plan_merge([A, B], INTO).steps[0].kept.store == B
    shutil.copytree(A, INTO)
    (INTO / "records/f0/model.safetensors").unlink()
    joined(B, into=INTO)
    assert (INTO / "records/f0/model.safetensors").read_bytes() == b"model"


def test_figures_that_differ_are_refused_until_one_is_chosen(here: Path, bench_command: Say) -> None:
    put(A, made(), made("f1"))
    put(B, made(top1=0.95, artifact_bytes=6, latency_ms_p50=7.0), made("f2"))
    said = bench_command("merge", A, B, "--into", INTO).mistake
    assert said == (
        "f0 (tic(k=64) on resnet20, seed 0) differs between a and b: top1 0.9134 and 0.95, artifact_bytes 5 and 6; "
        "--keep first or --keep last takes one of the two"
    )
    assert not INTO.exists(), "nothing was merged"
    assert joined(A, B, into=INTO, keep="first")["f0"].top1 == 0.9134
    assert joined(A, B, into=C, keep="last")["f0"].top1 == 0.95 and len(Store(C).records()) == 3
    for place, kept in ((INTO, "first"), (C, "last")):
        with pytest.raises(Differing, match="differs between"):
            plan_merge([A, B], place)
        assert plan_merge([A, B], place, kept).copies == [], "again, there is nothing to do"  # type: ignore[arg-type]
    put(A, made("f3"))
    put(B, made("f3", seed=3))
    with pytest.raises(Differing, match="; 1 more trial differs$"):
        plan_merge([A, B], Path("new"))


def test_what_must_agree_and_what_may_not() -> None:
    one = made()
    for change in ({"top1": 0.9146}, {"loss": 0.31}, {"macs": 5}, {"setting": "tic(k=4)"}, {"top5": 0.9}, {"seed": 1}):
        assert len(differences(one, replace(one, **change))) == 1, change
    for change in ({"top1": 0.9143}, {"loss": 0.302}, {"runtime": "torch"}, {"latency_speedup": 9.0}, {"weights": "x"},
                   {"throughput_ips": 1.0}, {"fit_seconds": 3.0}, {"other_load": 0.5},
                   {"config": {"command": "x"}}):  # fmt: skip
        assert differences(one, replace(one, **change)) == [], change
    left_out = set(FIGURES) - set(COMPARED)
    assert left_out == {
        name for name in FIGURES if name.startswith(("latency_", "throughput_")) or name.endswith("_seconds")
    } | {"other_load", "peak_memory_mb", "worst_class_drop", "artifact_compressed_bytes", "compressed_ratio"}


def test_the_command_tells_what_it_did(here: Path, bench_command: Say) -> None:
    put(A, made("f0"), made("f1"))
    put(B, made("f1", latency_ms_p50=3.0, started_at="2026-01-09T00:00:00+00:00"), made("f2"))
    put(INTO, made("f0"), failed("f2"))
    listed = bench_command("merge", A, B, "--into", INTO, "--dry-run")
    assert listed.code == 0 and Store(INTO).get("f2").status == "failed"  # type: ignore[union-attr]
    lines = [line.split() for line in listed.out.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["f0", "f2", "f1"]
    assert "3 records, 2 to copy; 1 in place of a failed or incomplete one; 1 there already" in listed.out
    said = bench_command("merge", A, B, "--into", INTO)
    assert said.out == (
        "into: 3 records, 2 copied; 1 in place of a failed or incomplete one; 1 there already; "
        "1 measured twice with the same figures, of which one is kept\n"
    )
    assert (said.code, said.err) == (0, "")
    again = bench_command("merge", A, B, INTO, "--into", INTO)
    assert "3 records, 0 copied" in again.out and again.err == "note: into is the store that is merged into\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing", "--into", "into"], "store missing: there is no such folder"),
        (["a", "file", "--into", "into"], "store file: a file, expected a folder"),
        (["a", "--into", "file"], "store file: a file, expected a folder"),
        (
            ["a", "--into", "file/into"],
            "store file/into: a file stands where a folder should; choose another folder wit",
        ),
        (["empty", "--into", "into"], "no records to merge in empty"),
        (["a", "--into", "a"], "no records to merge in any other store"),
        (["a", "broken", "--into", "into"], "broken/records/f5/record.json: not a record (Expecting value"),
        (["a", "renamed", "--into", "into"], "renamed/records/f7/record.json: the record is f6's; rename its folder"),
        (["a", "--into", ""], "--into : an empty path; is a variable in it not set?; see `bench merge --help`"),
        (["a"], "Missing option '--into'; see `bench merge --help`"),
        (["--into", "into"], "Missing argument 'stores'; see `bench merge --help`"),
        (["a", "--into", "into", "--keep", "both"], "--keep both: 'both' is not one of 'first', 'last'"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, here: Path, bench_command: Say) -> None:
    put(A, made())
    Path("file").write_text("mine")
    Path("empty").mkdir()
    Path("broken/records/f5").mkdir(parents=True)
    Path("broken/records/f5/record.json").write_text("")
    put(Path("renamed"), made("f6")).joinpath("records/f6").rename("renamed/records/f7")
    said = bench_command("merge", *words)
    lines = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert (said.code, said.out, len(lines)) == (2, "", 1) and lines[0].startswith(f"bench: {told}"), said
    assert not INTO.exists() and Path("file").read_text() == "mine"


def test_an_empty_shard_is_noted_and_the_others_are_merged(here: Path, bench_command: Say) -> None:
    put(A, made())
    Path("b/.claims").mkdir(parents=True)
    said = bench_command("merge", A, B, "--into", INTO)
    assert said.code == 0 and said.err == "note: b holds no records\n" and "1 copied" in said.out


@pytest.mark.parametrize("place", ["model.safetensors", "record.json", "extra.txt", "", ".."])
def test_no_link_is_followed(place: str, here: Path) -> None:
    secret = here / "secret"
    secret.write_text("1234")
    put(A, made("f1"))
    put(B, made())
    linked = Path("b/records/f0") / place if place != ".." else Path("b/records")
    if linked.is_dir():
        linked.rename("elsewhere")
        linked.symlink_to(here / "elsewhere", target_is_directory=True)
    else:
        linked.unlink(missing_ok=True)
        linked.symlink_to(secret)
    with pytest.raises(StoreError, match=f"^{linked}: a symbolic link, which may lead anywhere"):
        plan_merge([A, B], INTO)
    assert not INTO.exists()


def test_a_link_that_appears_later_is_not_followed_either(here: Path) -> None:
    put(A, made())
    planned = plan_merge([A], INTO)
    model = Path("a/records/f0/model.safetensors")
    model.unlink()
    model.symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match=f"^{model}: cannot be read .*; run the same command again$"):
        merge(planned)
    assert Store(INTO).records() == [] and not [path for path in INTO.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, here: Path) -> None:
    put(A, made())
    path = Path("a/records/f0/more")
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(StoreError, match="^a/records/f0/more: not a regular file, and a record has nothing else"):
        plan_merge([A], INTO)


def test_odd_names_are_told_in_one_harmless_line(here: Path, bench_command: Say) -> None:
    put(A, made(setting="tic(k=64)\x1b[31m\n"))
    put(B, made(setting="tic"))
    said = bench_command("merge", A, B, "--into", INTO).mistake
    assert "\x1b" not in said and "setting tic(k=64)" in said
    Path("a/records/f0/odd\n\x1bname").write_text("kept")
    Path("a/records/.hidden").mkdir()
    assert bench_command("merge", A, "--into", INTO).code == 0
    assert Path("into/records/f0/odd\n\x1bname").read_text() == "kept"
    assert "\x1b" not in bench_command("merge", A, "--into", C, "--dry-run").out


def test_a_source_that_changes_meanwhile_is_told(here: Path) -> None:
    put(A, made())
    planned = plan_merge([A], INTO)
    put(A, made(top1=0.5))
    with pytest.raises(StoreError, match="^a/records/f0: changed while it was copied; run the same command again$"):
        merge(planned)
    assert Store(INTO).records() == []


def test_a_trial_that_another_process_runs_is_left_to_it(here: Path, bench_command: Say) -> None:
    put(A, made("f0"), made("f1"))
    code = (
        "import sys, time; from pathlib import Path; from bench.records.store import Store\n"
        "with Store(Path('into')).claim('f0') as ours: print(ours, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        said = bench_command("merge", A, "--into", INTO)
        other.kill()
    assert said.code == 1 and "2 records, 1 copied" in said.out
    assert said.err == (
        "not merged: 1 trial that another process works on in into: f0 (tic(k=64), seed 0); run the command again\n"
    )
    assert set(joined(A, into=INTO)) == {"f0", "f1"}


def test_a_record_that_appears_meanwhile_is_not_replaced(here: Path) -> None:
    put(A, made())
    planned = plan_merge([A], INTO)
    put(INTO, made(top1=0.5))
    assert merge(planned).held == ["f0 (tic(k=64), seed 0)"]
    assert Store(INTO).records() == [made(top1=0.5)]


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.records import merging
countdown = int(sys.argv[1])

def killing(function):
    def call(*words, **more):
        global countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **more)
    return call

merging.shutil.copyfileobj = killing(merging.shutil.copyfileobj)
Path.rename = killing(Path.rename)
Path.mkdir = killing(Path.mkdir)
merging.join([Path("a"), Path("b")], Path("into"))
"""


def test_a_kill_at_any_moment_leaves_whole_records_and_the_next_run_completes_it(here: Path) -> None:
    put(A, made("f0"), made("f1"))
    put(B, made("f0"), made("f2"))
    put(Path("original"), failed("f0"))
    expected = content(A) | {name: text for name, text in content(B).items() if "/f2/" in name}
    kills = 0
    for moment in range(0, 60, 3):
        shutil.rmtree(INTO, ignore_errors=True)
        shutil.copytree("original", INTO)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(moment)], check=False)
        kills += ended.returncode == -signal.SIGKILL
        for record in Store(INTO).records():
            files = {path.name: path.read_bytes() for path in Store(INTO).folder(record.fingerprint).iterdir()}
            source = A if record.fingerprint != "f2" else B
            if record.status == "ok":
                assert files == {
                    path.name: path.read_bytes() for path in (source / "records" / record.fingerprint).iterdir()
                }
        joined(A, B, into=INTO)
        assert content(INTO) == expected, moment
        if ended.returncode == 0:
            break
    assert kills > 3 and ended.returncode == 0, "it was killed at several moments, and at the end not any more"


def test_a_full_disk_is_told_before_anything_is_copied(
    here: Path, monkeypatch: pytest.MonkeyPatch, bench_command: Say
) -> None:
    put(A, made())
    monkeypatch.setattr(merging, "SPARE_BYTES", 10**18)
    said = bench_command("merge", A, "--into", INTO).mistake
    assert said.startswith("store into: ") and said.endswith("free some space or choose another folder with --into DIR")


def test_merging_needs_neither_torch_nor_pandas() -> None:
    code = "import bench.records.merging, sys; sys.exit(bool({'torch', 'pandas', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
