"""`bench merge`: everything is kept, once; what contradicts is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.records.agreement import COMPARED, differences
from bench.records.merging import Differing, merge, plan_merge
from bench.records.record import FIGURES
from bench.records.store import Store

from .merged_stores import Say, content, failed, joined, made, put
from .merged_stores import here as here

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


def test_merging_needs_neither_torch_nor_pandas() -> None:
    code = "import bench.records.merging, sys; sys.exit(bool({'torch', 'pandas', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
