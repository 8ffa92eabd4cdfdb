"""`bench merge` where something is odd: links, special files, names, stores that change, a kill, a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.records import merging
from bench.records.merging import merge, plan_merge
from bench.records.store import Store, StoreError

from .merged_stores import Say, content, failed, joined, made, put
from .merged_stores import here as here

A, B, C, INTO = Path("a"), Path("b"), Path("c"), Path("into")


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
