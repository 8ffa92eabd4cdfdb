"""The rules that plans, suites and records share."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.leaderboard.summary import METRICS, load_records
from bench.plugins.setting import parse
from bench.records.record import FIGURES, LARGEST_RECORD, NUMBERS, Record
from bench.records.rules import LONGEST_TEXT
from bench.records.store import Store, StoreError, UnreadableRecord, read_record, write_record
from bench.system.errors import BadArgument, BenchError
from bench.trials.plan import Plan
from bench.trials.suite import load_suite

REQUIRED: dict[str, Any] = {
    "fingerprint": "f0",
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
HOSTILE_FINGERPRINTS = ["", ".", "..", "../../x", "a/b", "a\\b", ".hidden", "a\n", "a b", "a@b", "x" * 65, "/etc", "é"]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def plan(**changes: Any) -> Plan:
    return Plan(**{"settings": parse("none"), "models": ["resnet20"], **changes})


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("epochs", -1, "a number from 0 to 1000000"),
        ("epochs", math.nan, "a number from 0 to 1000000"),
        ("epochs", math.inf, "a number from 0 to 1000000"),
        ("epochs", "many", "a number from 0 to 1000000"),
        ("attack", -1, "a number from 0"),
        ("attack", 0.5, "a whole number from 0"),
        ("attack_distance", 0, "a number from 1 to 255"),
        ("attack_distance", 256, "a number from 1 to 255"),
        ("seeds", 3, "a list of whole numbers, as in (0, 1, 2)"),
        ("seeds", (), "a list of whole numbers, as in (0, 1, 2)"),
        ("models", "resnet20", "a list of names of networks"),
        ("models", [], "a list of names of networks"),
        ("settings", "tic", "a list of pipelines, as bench.plugins.setting.parse makes them"),
        ("settings", ["tic"], "a list of pipelines, as bench.plugins.setting.parse makes them"),
        ("device", "cpu", "a torch.device, as torch.device('cpu')"),
    ],
)
def test_a_plan_with_a_bad_value_is_refused_when_it_is_made(argument: str, value: object, expected: str) -> None:
    with pytest.raises(BadArgument) as caught:
        plan(**{argument: value})
    assert str(caught.value) == f"{argument}={value!r}: expected {expected}"


def test_a_plan_with_a_bad_seed_names_the_seed() -> None:
    with pytest.raises(BadArgument, match=r"^seeds=-2: expected a number from 0$"):
        plan(seeds=(0, -2))


def test_a_number_too_long_to_print_is_still_one_line() -> None:
    with pytest.raises(BadArgument, match=r"^epochs='an integer of about 50.. digits': expected a number from 0"):
        plan(epochs=10**5000)


@pytest.mark.parametrize("line", ["epochs: -1", "epochs: 1.0e+9", "seeds: 0", "attack: -1", "attack_distance: 256"])
def test_a_suite_is_held_to_the_rules_of_a_plan(line: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(f"runs: [{{models: resnet20, methods: none, {line}}}]")
    with pytest.raises(BenchError, match=line.split(":")[0]):
        load_suite(tmp_path / "suite.yaml", device=torch.device("cpu"))


def test_a_figure_states_its_unit_bounds_and_direction() -> None:
    assert list(FIGURES) == METRICS and set(FIGURES) < set(NUMBERS) and len(FIGURES) == 54
    assert set(NUMBERS) - set(FIGURES) == {"seed", "budget_epochs"}
    top1, latency, drop, macs = (FIGURES[name] for name in ("top1", "latency_ms_p50", "top1_drop", "macs_dense"))
    assert (top1.unit, top1.better, top1.ge, top1.le) == ("fraction", "higher", 0, 1)
    assert (latency.unit, latency.better, latency.ge, latency.le) == ("ms", "lower", 0, None)
    assert (drop.better, drop.ge, drop.le) == ("lower", -1, 1)
    assert macs.better is None and NUMBERS["macs_dense"] is int and NUMBERS["top1"] is float


FIGURE_VALUES = {
    name: st.none() | (st.integers(-2, 2**64) if NUMBERS[name] is int else st.floats(width=64)) for name in FIGURES
}


@given(
    figures=st.fixed_dictionaries({}, optional=FIGURE_VALUES),
    seed=st.integers(-1, 2**65),
    epochs=st.floats() | st.integers(),
    error=st.none() | st.text(st.characters(codec=None)),
    notes=st.lists(st.text(st.characters(codec=None)), max_size=2),
    config=st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["stages", "command", "sources"]), ANYTHING, max_size=3
    ),
)
@settings(max_examples=150)
def test_what_is_written_is_read(
    figures: dict[str, Any], seed: int, epochs: float, error: str | None, notes: list[str], config: dict[str, Any]
) -> None:
    record = Record(
        **REQUIRED | figures | {"seed": seed, "budget_epochs": epochs}, error=error, notes=notes, config=config
    )
    try:
        text = record.to_json()
    except ValueError as problem:
        assert str(problem) and "\n" not in str(problem)
        return
    read = Record.from_json(text)
    assert read.to_json() == text
    text.encode()
    assert {name: getattr(read, name) for name in figures} == figures and read.seed == seed


def test_every_valid_figure_can_be_written() -> None:
    values = {name: figure.le if figure.le is not None else 1.5 for name, figure in FIGURES.items()}
    record = Record(**REQUIRED, **values)
    assert Record.from_json(record.to_json()) == record


@given(content=st.binary(max_size=60) | st.text().map(lambda text: text.encode()))
@settings(max_examples=60)
def test_reading_any_bytes_gives_a_record_or_one_line(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "record.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableRecord) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: not a record (") and "\n" not in str(caught.value)


@given(changes=st.dictionaries(st.sampled_from([*NUMBERS, *REQUIRED, "config", "notes", "versions"]), ANYTHING))
@settings(max_examples=150)
def test_reading_any_fields_gives_a_record_or_one_line(changes: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "record.json"
    path.write_text(json.dumps(REQUIRED | changes))
    try:
        record = read_record(path)
    except UnreadableRecord as error:
        assert "\n" not in str(error)
    else:
        assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        (
            json.dumps(REQUIRED)[:-1] + ', "config": {"a": ' + "[" * 60 + "]" * 60 + "}}",
            "config: .*nested deeper than 40",
        ),
        (json.dumps(REQUIRED | {"seed": 0})[:-1] + ', "macs": 1' + "0" * 5000 + "}", "Exceeds the limit"),
        (json.dumps(REQUIRED)[:-1] + ', "config": {"a": 1' + "0" * 400 + "}}", "config: an integer of more than 300"),
        (json.dumps(REQUIRED)[:-1] + ', "config": {"a": NaN}}', "config: nan, expected a finite number"),
        (json.dumps(REQUIRED)[:-1] + ', "loss": 1e999}', "loss: inf, expected a finite number"),
        (json.dumps(REQUIRED | {"macs": 2**63}), "macs: .*expected a number from 0"),
        (json.dumps(REQUIRED | {"top1": True}), "top1: Input should be a valid number"),
        (json.dumps(REQUIRED | {"seed": "0"}), "seed: Input should be a valid integer"),
        (json.dumps(REQUIRED | {"config": {"stages": 3}}), "config: stages: Input should be a valid list"),
        (json.dumps(REQUIRED | {"config": {"stages": [{}]}}), "config: stages.0.method: Field required"),
        (json.dumps(REQUIRED | {"started_at": "0001-01-01T00:00:00"}), "started_at: .*expected a time"),
    ],
)
def test_an_absurd_record_is_one_line(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(UnreadableRecord, match=rf"record\.json: not a record \({told}.*\); delete") as caught:
        read_record(tmp_path / "record.json")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_huge_record_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(10**12)  # a sparse file: reading it would take all memory
    with pytest.raises(UnreadableRecord, match="1000000 MB, expected at most 10 MB"):
        read_record(path)
    for name in ("records.json", "records.jsonl"):
        path.rename(tmp_path / name)
        with pytest.raises(BenchError, match="1000000 MB, expected at most 500 MB"):
            load_records(tmp_path / name)
        path = tmp_path / name


def test_a_pipe_in_place_of_a_record_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(UnreadableRecord, match="not a regular file"):
        read_record(tmp_path / "record.json")


def test_huge_and_unprintable_texts_are_kept_in_part() -> None:
    record = Record(**REQUIRED, error="x" * 10**8, notes=["\udc80 caf\xe9"])
    read = Record.from_json(record.to_json())
    assert read.error == "x" * LONGEST_TEXT + " ... (99,990,000 more characters)"
    assert read.notes == ["\\udc80 café"]
    assert Record.from_json(json.dumps(REQUIRED | {"error": "\udc80"})).error == "\\udc80"
    with pytest.raises(ValueError, match="more than 10 MB"):
        Record(**REQUIRED, config={"a": "x" * LARGEST_RECORD}).to_json()


@pytest.mark.parametrize("fingerprint", HOSTILE_FINGERPRINTS)
def test_a_fingerprint_never_leads_out_of_the_store(fingerprint: str, tmp_path: Path) -> None:
    hostile = json.dumps(REQUIRED | {"fingerprint": fingerprint})
    with pytest.raises(ValueError, match="^fingerprint: "):
        Record.from_json(hostile)
    with pytest.raises(ValueError, match="^fingerprint: "):
        Record(**REQUIRED | {"fingerprint": fingerprint}).to_json()
    store = Store(tmp_path / "runs")
    for use in (store.folder, store.get, lambda text: store.prepare(text).__enter__()):
        with pytest.raises(StoreError, match="fingerprint"):
            use(fingerprint)
    for name in ("r.json", "r.jsonl"):
        (tmp_path / name).write_text(hostile)
        with pytest.raises(BenchError, match=rf"{name}: not records \(.*fingerprint: ") as caught:
            load_records(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_json_lines_end_at_newlines_only(tmp_path: Path) -> None:
    lines = [json.dumps(REQUIRED | {"error": "a\u2028b\x85c"}, ensure_ascii=False), json.dumps(REQUIRED | {"seed": -1})]
    (tmp_path / "r.jsonl").write_text(lines[0] + "\n\n", encoding="utf-8")
    assert load_records(tmp_path / "r.jsonl")["error"].tolist() == ["a\u2028b\x85c"]
    (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BenchError, match=r"r\.jsonl: not records \(line 2: seed: -1, expected a number from 0\)"):
        load_records(tmp_path / "r.jsonl")


def test_a_store_refuses_a_record_that_it_could_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(ValueError, match="top1: 94.1, expected a number from 0 to 1"), store.prepare("f0") as folder:
        write_record(Record(**REQUIRED, top1=94.1), folder)
    with pytest.raises(UnreadableRecord, match="the record is f0's, expected f1's"), store.prepare("f1") as folder:
        write_record(Record(**REQUIRED), folder)
    with pytest.raises(UnreadableRecord, match="not a record"), store.prepare("f0") as folder:
        (folder / "record.json").write_text("{}")
    assert store.records() == []
