"""Suites: files of many trials, what they refuse, and how they are run."""

from __future__ import annotations

import tempfile
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.trials import plan as opening
from bench.trials import run as harness
from bench.trials import suite as suites
from bench.trials.run import Plan
from bench.trials.suite import load_suite

ROOT = Path(__file__).parents[1]
Say = Callable[..., Any]
Write = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("quick_timing")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A suite of that content."""

    def write(text: str) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def load(path: Path) -> list[Plan]:
    return load_suite(path, device=torch.device("cpu"), command="bench run --suite some.yaml")


def settings(plan: Plan) -> list[str]:
    return [str(setting) for setting in plan.settings]


def test_every_word_of_a_run_reaches_its_plan(write: Write) -> None:
    path = write("""
        runs:
          - models: [resnet56, vgg16_cifar]
            dataset: [cifar10, "folder:/data/a, b"]
            data_root: /data
            methods: [tic(k=64), l1(rate=0.5)+tic]
            weights: scratch
            epochs: 2.5
            seeds: 3
            attack: 200
    """)
    first, second = load(path)
    assert (first.dataset, second.dataset) == ("cifar10", "folder:/data/a, b")
    for plan in (first, second):
        assert settings(plan) == ["none", "tic(k=64)", "l1(rate=0.5)+tic(k=64)"]
        assert plan.models == ["resnet56", "vgg16_cifar"] and plan.data_root == Path("/data")
        assert (plan.weights, plan.epochs, list(plan.seeds), plan.attack) == ("scratch", 2.5, [0, 1, 2], 200)
        assert (plan.suite, plan.command) == ("some.yaml", "bench run --suite some.yaml")


def test_what_is_left_out_is_as_on_the_command_line(write: Write) -> None:
    (plan,) = load(write("runs: [{models: resnet20, methods: tic}]"))
    plain = Plan(settings=plan.settings, models=["resnet20"])
    names = ("dataset", "data_root", "weights", "epochs", "attack", "models")
    assert all(getattr(plan, name) == getattr(plain, name) for name in names)
    assert list(plan.seeds) == list(plain.seeds) == [0]


def test_a_run_goes_before_the_defaults(write: Write) -> None:
    path = write("""
        defaults: {models: resnet20, methods: tic, epochs: 0.05, seeds: 2, data_root: /data}
        runs:
          - {}
          - {methods: kse, epochs: 0, data_root: null}
          - {models: [resnet32, resnet32]}
    """)
    first, second, third = load(path)
    assert settings(first) == ["none", "tic(k=64)"] and settings(second) == ["none", "kse(G=4)"]
    assert (first.epochs, second.epochs, third.epochs) == (0.05, 0, 0.05)
    assert (first.data_root, second.data_root) == (Path("/data"), None)
    assert third.models == ["resnet32"] and len(third.seeds) == 2


@pytest.mark.parametrize(
    "methods",
    [
        "[tic(k=64, transforms=4), kse, l1(rate=0.5)+tic(k=8, transforms=1)]",
        "tic(k=64, transforms=4), kse, l1(rate=0.5)+tic(k=8, transforms=1)",
        "\n  - tic(k=64, transforms=4)\n  - kse, l1(rate=0.5)+tic(k=8, transforms=1)",
        "['tic(k=64, transforms=4)', kse(), none, 'l1(rate=0.5) + tic(k=8, transforms=1)']",
    ],
)
def test_settings_are_written_as_on_the_command_line(methods: str, write: Write) -> None:
    (plan,) = load(write(f"runs:\n- models: resnet20\n  methods: {methods}"))
    expected = ["tic(k=64, transforms=4)", "kse(G=4)", "l1(rate=0.5)+tic(k=8, transforms=1)"]
    assert settings(plan) == ["none", *expected]


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


def test_where_data_lies_is_the_machines_affair(write: Write) -> None:
    path = write("runs: [{models: resnet20, methods: tic}, {models: resnet20, methods: tic, data_root: /data}]")
    plans = load_suite(path, device=torch.device("cpu"), data_root=Path("/mnt"))
    assert [plan.data_root for plan in plans] == [Path("/mnt")] * 2
    assert [plan.data_root for plan in load(path)] == [None, Path("/data")]


def test_a_run_needs_methods_or_a_suite(bench_command: Say) -> None:
    said = bench_command("run", "--models", "resnet20")
    assert said.code == 2 and said.err == "bench: expected --methods or --suite FILE; see `bench run --help`\n"


@pytest.fixture
def small(image_folder: Path, write: Write) -> Path:
    """Five different trials, in three runs that overlap; the middle one's images are not there."""
    return write(f"""
        defaults: {{models: resnet20, dataset: 'folder:{image_folder}', weights: scratch, epochs: 0}}
        runs:
          - methods: l1(rate=0.9)
          - methods: [tic(k=4), kse]
            dataset: folder:/no/such/place
          - methods: ['l1(rate=0.90)', tic(k=4), random(rate=0.9)]
            seeds: 2
    """)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings that are really run, as they come."""
    found: list[str] = []

    def run_trial(trial: Any, *rest: Any) -> Record:
        found.append(f"{trial.setting} {trial.seed}")
        return run(trial, *rest)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    return found


TRIALS = ["none 0", "l1(rate=0.9) 0", "l1(rate=0.9) 1", "tic(k=4) 0", "tic(k=4) 1", "random(rate=0.9) 0",
          "random(rate=0.9) 1"]  # fmt: skip
PROBLEM = "dataset='folder:/no/such/place': there is no /no/such/place"


def test_a_suite_runs_each_trial_once_and_goes_on(
    small: Path, bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    words = ("run", "--suite", small, "--store", tmp_path / "runs", "--no-tracking", "--device", "cpu")
    said = bench_command(*words)
    assert said.code == 1, "one run could not open its dataset"
    assert ran == TRIALS, "what two runs share is run once"
    assert said.err.count(f"failed: {PROBLEM}") == said.err.count(f"not run: {PROBLEM}") == 1
    records = Store(tmp_path / "runs").records()
    assert len(records) == 7 and {record.status for record in records} == {"ok"}
    for record in records:
        assert record.config["suite"] == "some.yaml" and record.config["command"].startswith(
            f"bench run --suite {small}"
        )
    seeds = [line.split()[-1] for line in said.out.splitlines() if "l1(rate=0.9)" in line]
    assert seeds == ["2"], "a trial of two runs counts once on the board"

    ran.clear()
    again = bench_command(*words)
    assert again.code == 1 and ran == [] and "7 of 7 trials were recorded before" in again.err
    assert again.out == said.out


def test_a_suite_and_a_command_share_their_records(
    small: Path, image_folder: Path, bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    rest = ("--store", tmp_path / "runs", "--no-tracking")
    bench_command(
        *("run", "--models", "resnet20", "--weights", "scratch", "--dataset", f"folder:{image_folder}"),
        *("--epochs", "0", "--methods", "tic(k=4)", *rest),
    )
    (plain, _) = Store(tmp_path / "runs").records()
    assert ran == ["none 0", "tic(k=4) 0"] and "suite" not in plain.config
    bench_command("run", "--suite", small, *rest)
    assert sorted(ran) == sorted(TRIALS)


def test_a_suite_of_which_nothing_opens_is_one_line(write: Write, bench_command: Say, tmp_path: Path) -> None:
    path = write("""
        defaults: {models: [resnet20, resnet32], methods: tic}
        runs: [{dataset: "folder:/no/such/place"}, {dataset: "folder:/nor/this"}]
    """)
    said = bench_command("run", "--suite", path, "--store", tmp_path / "runs")
    assert said.code == 2 and "Traceback" not in said.err
    other = "dataset='folder:/nor/this': there is no /nor/this"
    assert said.err.splitlines()[-1] == f"bench: {PROBLEM}; {other}"
    assert said.err.count(f"failed: {PROBLEM}\n") == 1


def test_neighbours_share_what_they_have_in_common(
    small: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    opened: list[str] = []

    def watch(name: str) -> None:
        original = getattr(opening, name)
        monkeypatch.setattr(opening, name, lambda *words: opened.append(name) or original(*words))

    watch("open_dataset")
    watch("load_task")
    plan = Plan(settings=parse("none"), models=["resnet20"], dataset=f"folder:{image_folder}", weights="scratch")
    list(opening.open_plans([plan, plan, plan]))
    assert opened == ["open_dataset", "load_task"]


def test_a_dry_run_tells_what_is_recorded_and_writes_nothing(
    small: Path, image_folder: Path, bench_command: Say, ran: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = ("run", "--suite", small, "--store", tmp_path / "runs", "--no-tracking")
    dry = bench_command(*words, "--dry-run")
    assert dry.code == 1 and dry.err == f"failed: {PROBLEM}\n" and ran == []
    assert not (tmp_path / "runs").exists()
    rows = [line.split() for line in dry.out.splitlines()[1:-2]]
    assert [f"{row[2]} {row[4]}" for row in rows] == TRIALS
    assert all(row[5:] == ["–", "to", "run"] for row in rows) and dry.out.splitlines()[-2] == "7 to run"
    assert "gets up to 30 training batches to re-estimate batch-norm statistics" in dry.out.splitlines()[-1]

    def fail(trial: Any, *_: Any) -> Record:
        return trial.blank("") if trial.setting.name == "tic" else run(trial, *_)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", fail)
    bench_command(*words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    states = bench_command(*words, "--dry-run").out.splitlines()
    assert states[-2] == "5 recorded; 2 failed, to run again"
    assert [line.split(maxsplit=6)[6].strip() for line in states[1:-2] if "tic" in line] == ["failed, to run again"] * 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_a_dry_run_trains_no_baseline(
    write: Write, image_folder: Path, bench_command: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("trained all the same")

    monkeypatch.setattr("bench.trials.baseline.train_baseline", fail)
    path = write(f"""
        defaults: {{models: resnet20, dataset: 'folder:{image_folder}', methods: l1}}
        runs: [{{seeds: 2}}, {{seeds: 3}}, {{attack: 9}}]
    """)
    said = bench_command("run", "--suite", path, "--store", tmp_path / "runs", "--dry-run")
    assert said.code == 0 and said.out.splitlines()[-2] == "6 to run, baseline to be trained"
    assert not (tmp_path / "runs").exists()


def test_the_suite_of_continuous_integration_names_every_method_that_there_is() -> None:
    from bench.plugins.registry import methods

    plans = load(ROOT / "results" / "ci.yaml")
    named = {stage.name for plan in plans for setting in plan.settings for stage in setting.stages}
    assert named == {name for name, kind in methods().items() if kind.__module__.startswith("bench_methods")}
    assert {plan.dataset for plan in plans} == {"fashion-mnist"}
    assert {name for plan in plans for name in plan.models} == {"resnet20"}, "its weights are shipped"


def test_the_example_in_the_documentation_loads(write: Write) -> None:
    example = "\n".join(line[4:] for line in suites.__doc__.splitlines() if line.startswith("    "))
    assert len(yaml.safe_load(example)["runs"]) == 2
    plans = load(write(example))
    assert [(plan.dataset, len(plan.models), len(plan.seeds)) for plan in plans] == [
        ("fashion-mnist", 1, 1), ("cifar10", 2, 3), ("cifar100", 2, 3),
    ]  # fmt: skip
    assert settings(plans[0])[-1] == "l1(rate=0.5)+tic(k=128)" and settings(plans[1]) == [
        "none",
        "tic(k=64)",
        "kse(G=4)",
    ]


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
