"""Standard output and standard error as a command finds them: in old encodings, closed, cut off, or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli.usage_errors import worded
from bench.records.record import Record
from bench.records.store import Store, StoreError, write_record
from bench.system.errors import BadArgument
from bench.system.files import write_atomically

CODE = "import sys; from bench.cli.commands import main; sys.argv[0] = 'bench'; main()"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = Store(tmp_path / "runs")
    for name, ratio in (("none", 1.0), ("tic(k=64)", 12.5)):
        record = Record(
            fingerprint=name[:3], status="ok", method=name.split("(")[0], setting=name, model="漢字", dataset="é",
            weights="w", seed=0, budget_epochs=1, device="cpu", started_at="2026-01-01T00:00:00+00:00", top1=0.9,
            compression_ratio=ratio,
        )  # fmt: skip
        with store.prepare(name[:3]) as folder:
            write_record(record, folder)
    return store.root


def bench(*words: object, encoding: str = "utf-8", **more: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONWARNINGS": "default"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([sys.executable, "-c", CODE, *map(str, words)], env=environment, check=False, **options)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_board_is_printed_in_any_encoding(encoding: str, store: Path) -> None:
    ended = bench("leaderboard", "--store", store, encoding=encoding)
    printed = ended.stdout.decode(encoding)
    assert ended.returncode == 0 and ended.stderr == b""
    assert ("12.50x" if encoding == "ascii" else "12.50×") in printed and r"\u6f22\u5b57" in printed


def test_figures_for_programs_are_utf_8_in_any_encoding(store: Path) -> None:
    ended = bench("leaderboard", "--store", store, "--format", "json", encoding="ascii")
    assert {row["model"] for row in json.loads(ended.stdout.decode("utf-8"))} == {"漢字"}


def test_an_argument_that_is_no_text_is_quoted(store: Path) -> None:
    ended = subprocess.run(
        [sys.executable.encode(), b"-c", CODE.encode(), b"list", b"methods", b"--match", b"\xff\x1b[2J"],
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2 and ended.stdout == b""
    assert ended.stderr == b"bench: --match \\udcff\\x1b[2J: no method has a name that contains this\n"


def test_nobody_reads_on(store: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = bench("leaderboard", "--store", store, stdout=write)
    os.close(write)
    assert ended.returncode == 1 and ended.stderr == b""


@pytest.mark.parametrize("words", [["leaderboard"], ["leaderboard", "--format", "csv"], ["list", "methods"]])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_one_line(words: list[str], store: Path) -> None:
    more = ["--store", str(store)] if words[0] == "leaderboard" else []
    with open("/dev/full", "w") as full:
        ended = bench(*words, *more, stdout=full)
    assert ended.returncode == 2 and b"No space left on device" in ended.stderr and ended.stderr.count(b"\n") == 1


def test_closed_streams_are_no_error(store: Path) -> None:
    line = f'exec "$0" -c "{CODE}" leaderboard --store "$1" >&- 2>&-'
    assert subprocess.run(["sh", "-c", line, sys.executable, str(store)], check=False).returncode == 0


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "file" / "baselines" / "x", b"")
    told = worded(caught.value)
    assert told.startswith(f"cache {tmp_path / 'file'}") and told.endswith(
        "; set BENCH_CACHE to a folder that can be written"
    )
    assert worded(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"


def test_the_help_names_the_cache() -> None:
    assert b"BENCH_CACHE=DIR" in bench("--help").stdout


def test_an_error_of_the_library_is_given_the_option_that_helps() -> None:
    assert worded(BadArgument("data_root", Path("/x"), "no folder")) == "--data-root /x: no folder"
    assert worded(BadArgument("epochs", 10**5000, "too many")).startswith("--epochs an integer of 16610 bits: ")
    assert worded(StoreError("full; choose another folder")) == "full; choose another folder with --store DIR"
    assert worded(StoreError("damaged; delete it")) == "damaged; delete it"
