"""Suites that will not do: each mistake is one line, and no text takes long or fills the memory."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.system.errors import BenchError

from .written_suites import load, settings
from .written_suites import write as write

Say = Callable[..., Any]
Write = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("quick_timing")

GOOD = "runs:\n  - models: resnet20\n    methods: tic\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ": not a suite; expected a mapping with 'runs:', a list of runs"),
        ("- models: resnet20", ": not a suite; expected a mapping with 'runs:', a list of runs"),
        ("runs: 3", ", line 1: runs 3: expected a list"),
        ("runs: []", ", line 1: runs []: expected at least one"),
        ("defaults: {}", ", line 1: runs: there is none"),
        ("run: []", ", line 1: there is no 'run'; did you mean 'runs'? There are: defaults, runs"),
        ("1: 2", ", line 1: there is no '1'. There are: defaults, runs"),
        ("runs: [resnet20]", ", line 1: runs 'resnet20': expected names with values, as in 'models: resnet20'"),
        (GOOD + "    seed: 3", ", line 4: there is no 'seed'; did you mean 'seeds'? There are: at, attack"),
        ("defaults:\n  metods:\n    - tic\n" + GOOD, ", line 2: there is no 'metods'; did you mean 'methods'?"),
        (GOOD + "    epochs: -1", ", line 4: epochs -1: should be greater than or equal to 0"),
        (GOOD + "    epochs: true", ", line 4: epochs True: expected a number, as in 0.05"),
        (GOOD + "    epochs: 1e-2", ", line 4: epochs '1e-2': expected a number, as in 0.05"),
        (GOOD + "    epochs: .nan", ", line 4: epochs nan: should be a finite number"),
        (GOOD + "    seeds: 0", ", line 4: seeds 0: should be greater than or equal to 1"),
        (GOOD + "    seeds: 1.5", ", line 4: seeds 1.5: expected a whole number"),
        (GOOD + "    attack: -3", ", line 4: attack -3: should be greater than or equal to 0"),
        (GOOD + "    weights: 3", ", line 4: weights 3: expected text"),
        (GOOD + "  - methods: tic", ", line 4: neither this run nor the defaults name any models"),
        (GOOD + "  - models: resnet20", ", line 4: neither this run nor the defaults name any methods"),
        (GOOD + "    dataset: []", ", line 2: neither this run nor the defaults name any dataset"),
        (GOOD + "    models: resnet32", ", line 4: 'models' is given twice"),
        ("runs:\n- models: resnet20\n  methods:\n  - tic\n  - 3", ", line 5: methods 3: expected text"),
        ("runs:\n- models: resnet20\n  methods: tci", ", line 3: there is no method 'tci'; did you mean 'tic'?"),
        ("runs:\n- models: resnet20\n  methods: tic(j=3)", ", line 3: tic has no option 'j'"),
        ("defaults: {methods: tic(k=0)}\nruns: [{models: resnet20}]", ", line 1: tic(k=0): k should be greater than"),
        ("runs:\n- models:\n  - resnet20\n  - resnte56\n  methods: tic", ", line 2: no network is called 'resnte56'"),
        (GOOD + "    dataset: fashion-mnits", ", line 4: there is no dataset 'fashion-mnits'; did you mean 'fashion-m"),
        (GOOD + "\t- x", ", line 4: found character '\\t' that cannot start any token; text with : # { } [ ] in it ne"),
        ("a: b: c", ", line 1: mapping values are not allowed here; text with : # { } [ ] in it needs quotes"),
        ("runs:\n- methods: [l1(rate=[1])]", ", line 2: expected ',' or ']', but got '['; text with "),
        ("runs: !!python/object:os.system x", ", line 1: could not determine a constructor for the tag "),
        ("runs: 2020-13-45", ", line 1: '2020-13-45' is not a valid timestamp (month must be in 1..12)"),
        ("[" * 5000, ", line 1: more than 20 nested lists or mappings"),
        ("runs: &x [*x]", ", line 1: '*x' is inside the value that it names"),
        ("\0", r": '\x00' in line 1 is a character that YAML does not allow"),
        ("--- a\n--- b", ", line 2: but found another document"),
        ("!!map [a]", ", line 1: expected a mapping node, but found sequence"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_suite_is_one_line(text: str, told: str, tmp_path: Path, bench_command: Say) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    said = bench_command("run", "--suite", path, "--store", tmp_path / "runs").mistake
    assert said.startswith(f"suite {path}{told}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read (No such file or directory)"), (b"#\n\xff\xfe\xfa", "line 2 is not UTF-8")],
)
def test_a_file_that_is_no_text_is_told(content: bytes | None, told: str, tmp_path: Path, bench_command: Say) -> None:
    path = tmp_path / "some.yaml"
    if content is not None:
        path.write_bytes(content)
    assert bench_command("run", "--suite", path).mistake.startswith(f"suite {path}: {told}")
    assert bench_command("run", "--suite", tmp_path).mistake == f"suite {tmp_path}: cannot be read (Is a directory)"


@pytest.mark.parametrize(
    "words", ["--methods tic", "--models resnet20", "--dataset fashion-mnist", "--weights auto", "--epochs 1",
              "--seeds 1", "--attack 0"],
)  # fmt: skip
def test_what_a_suite_says_is_not_said_twice(words: str, write: Write, bench_command: Say) -> None:
    told = bench_command("run", "--suite", write(GOOD), *words.split()).mistake
    assert told.startswith(f"{words.split()[0]} with --suite: the suite sets it for each of its runs; ")


def test_a_run_needs_methods_or_a_suite(bench_command: Say) -> None:
    said = bench_command("run", "--models", "resnet20")
    assert said.code == 2 and said.err == "bench: expected --methods or --suite FILE; see `bench run --help`\n"


def test_a_suite_is_read_as_data(write: Write, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="could not determine a constructor"):
        load(write(f"runs: !!python/object/apply:os.mkdir ['{tmp_path / 'evidence'}']"))
    assert not (tmp_path / "evidence").exists()


def bomb(levels: int) -> str:
    """A few hundred bytes that stand for 10 ** levels values."""
    lists = ["&l0 [x,x,x,x,x,x,x,x,x,x]"]
    lists += [f"&l{level} [{','.join([f'*l{level - 1}'] * 10)}]" for level in range(1, levels)]
    return f"defaults:\n  epochs: [{','.join(lists)}]\nruns: [{{models: resnet20, methods: none}}]\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb(6), ", line 2: more than 5,000 values, with those that aliases (*name) repeat"),
        (bomb(9), ", line 2: more than 5,000 values, with those that aliases (*name) repeat"),
        ("runs:\n - &a {models: resnet20, methods: *a}", ", line 2: '*a' is inside the value that it names"),
        ("{a: " * 3000 + "}" * 3000, ", line 1: more than 20 nested lists or mappings"),
        (GOOD + f"    seeds: 0x{'f' * 5000}", ", line 4: a number of 5,002 characters; at most 40 are read"),
        (GOOD + f"    epochs: {'9' * 5000}", ", line 4: a number of 5,000 characters; at most 40 are read"),
        (GOOD + f"    weights: {'x' * 5000}!", None),
        (GOOD + "    dataset: 2001-99-01", ", line 4: '2001-99-01' is not a valid timestamp (month must be in 1..12)"),
        (GOOD + r'    dataset: "folder:\0"', r", line 4: dataset 'folder:\x00': expected text without a NUL character"),
        (GOOD + r'    weights: "\ud800"', r", line 4: weights '\ud800': expected text without a NUL character and"),
        ("#" * 2_000_000, ": larger than 1,000,000 bytes, the most that is read"),
        ("runs: [" + "1," * 5_500 + "1]", ", line 1: more than 5,000 values"),
    ],
    ids=range(12),
)
def test_an_odd_suite_is_one_line_at_once_and_in_little_memory(text: str, told: str | None, write: Write) -> None:
    path = write(text)
    tracemalloc.start()
    started = time.process_time()
    try:
        load(path)
    except BenchError as error:
        assert told is not None and str(error).startswith(f"suite {path}{told}"), error
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        assert told is None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - started < 10 and peak < 100e6


def test_an_alias_within_reason_is_read(write: Write) -> None:
    first, second = load(write("runs:\n- &a {models: resnet20, methods: tic}\n- <<: *a\n  epochs: 2\n"))
    assert (settings(first), first.epochs) == (settings(second), 1) and second.epochs == 2


YAML = ["runs", "defaults", "models", "methods", "epochs", "seeds", "dataset", "weights", "resnet20", "tic", "none",
        ": ", ":", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<", "? ", "!!int ", "!!set ",
        "!!binary ", "!!timestamp ", "!!float ", "!!omap ", "!!null ", "|", ">", "'", '"', "#", "1", "1e9", ".inf",
        "0o7", "1:30", "2001-01-01", "2001-99-99", "~", "=", "%YAML 1.1\n", "---\n", "...", "\t", "\\", r'"\0"',
        r'"\ud800"', "\x1b", "\ufeff", "é"]  # fmt: skip


@given(st.text(max_size=40) | st.lists(st.sampled_from(YAML), max_size=25).map(lambda parts: GOOD + "".join(parts))
       | st.lists(st.sampled_from(YAML), max_size=25).map("".join))  # fmt: skip
@hypothesis_settings(max_examples=200)
def test_any_text_is_a_suite_or_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            assert load(path)
        except BenchError as error:
            assert "\n" not in str(error) and str(error).startswith(f"suite {path}")
