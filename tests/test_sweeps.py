"""Lists and ranges in settings and suites: what they stand for, what they refuse, and where they are taken."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bench
from bench.plugins.ranges import read_range
from bench.plugins.setting import parse, with_dense
from bench.records.store import Store
from bench.system.errors import BadArgument, BenchError
from bench.trials.plan import Plan
from bench.trials.points import aims_of, parse_points
from bench.trials.suite import load_suite

Say = Callable[..., Any]


def read(text: str) -> list[str]:
    return [str(setting) for setting in parse(text, "--methods")]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1..0.9/0.2", [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("0.1..0.3/0.1", [0.1, 0.2, 0.3]),
        ("0..1/0.25", [0.0, 0.25, 0.5, 0.75, 1.0]),
        (".1 .. .3 / .1", [0.1, 0.2, 0.3]),
        ("-0.2..0.1/0.1", [-0.2, -0.1, 0.0, 0.1]),
        ("1e-3..3e-3/1e-3", [0.001, 0.002, 0.003]),
        ("16..64/16", [16, 32, 48, 64]),
        ("1..4", [1, 2, 3, 4]),
        ("1..10/4", [1, 5, 9]),
        ("7..7", [7]),
        ("-2..2/2", [-2, 0, 2]),
        ("16..256*2", [16, 32, 64, 128, 256]),
        ("16..255*2", [16, 32, 64, 128]),
        ("1..1000*10", [1, 10, 100, 1000]),
        ("0.001..0.1*10", [0.001, 0.01, 0.1]),
        ("100000000000000000000..100000000000000000002", [10**20, 10**20 + 1, 10**20 + 2]),
    ],
)
def test_a_range_is_its_numbers_to_the_last_digit(text: str, values: list[float]) -> None:
    found = read_range(text)
    assert found is not None and found.values == values and found.count == len(values)
    assert {type(value) for value in found.values} == {type(values[0])}


@given(first=st.integers(-500, 500), steps=st.integers(0, 60), step=st.integers(1, 300), places=st.integers(0, 6))
def test_a_range_has_no_drift_and_includes_an_end_that_is_reached(
    first: int, steps: int, step: int, places: int
) -> None:
    def written(number: int) -> str:
        return f"{Decimal(number).scaleb(-places):f}"

    found = read_range(f"{written(first)}..{written(first + steps * step)}/{written(step)}")
    expected = [first + index * step for index in range(steps + 1)]
    assert found is not None and [str(value) for value in found.values] == [
        str(number if not places else float(written(number))) for number in expected
    ]


@given(first=st.integers(1, 1000), factor=st.integers(2, 9), steps=st.integers(0, 12), more=st.integers(0, 1))
def test_a_geometric_range_ends_where_a_power_meets_the_end(first: int, factor: int, steps: int, more: int) -> None:
    found = (
        read_range(f"{first}..{first * factor**steps + more - 1}*{factor}") if first * factor**steps > first else None
    )
    if found is not None:
        assert found.values == [first * factor**index for index in range(steps + more)]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("tic(k=[16,32,64])", ["tic(k=16)", "tic(k=32)", "tic(k=64)"]),
        ("l1(rate=0.3..0.5/0.2)", ["l1(rate=0.3)", "l1(rate=0.5)"]),
        ("tic(k=[8, 16..32/16, 100])", ["tic(k=8)", "tic(k=16)", "tic(k=32)", "tic(k=100)"]),
        ("tic(k=[4,8], transforms=[1,8])", [
            "tic(k=4, transforms=1)", "tic(k=4)", "tic(k=8, transforms=1)", "tic(k=8)",
        ]),
        ("l1(rate=[0.3,0.5])+tic(k=4..8*2)", [
            "l1(rate=0.3)+tic(k=4)", "l1(rate=0.3)+tic(k=8)", "l1(rate=0.5)+tic(k=4)", "l1(rate=0.5)+tic(k=8)",
        ]),
        ("[l1, magnitude(rate=0.5)]+tic(k=4)", ["l1(rate=0.5)+tic(k=4)", "magnitude(rate=0.5)+tic(k=4)"]),
        ("l1(granularity=[filter, kernel])", ["l1(rate=0.5)", "l1(rate=0.5, granularity=kernel)"]),
        ("kse(G=[4]), tic", ["kse(G=4)", "tic(k=64)"]),
        # Round brackets are a value, square ones a sweep.
        ("l1(skip=(16, 20))", ["l1(rate=0.5, skip=(16, 20))"]),
        ("l1(skip=[16, 20])", ["l1(rate=0.5, skip=(16,))", "l1(rate=0.5, skip=(20,))"]),
        ("l1(skip=[(16, 20), 'layer*'])", ["l1(rate=0.5, skip=(16, 20))", "l1(rate=0.5, skip=('layer*',))"]),
        ("l1(skip=(1, [16, 20]))", ["l1(rate=0.5, skip=(1, 16))", "l1(rate=0.5, skip=(1, 20))"]),
        # A sweep in a setting that is a value.
        ("scratch(of=l1(rate=[0.3,0.5]))", ["scratch(of=l1(rate=0.3))", "scratch(of=l1(rate=0.5))"]),
        ("scratch(of=[l1, magnitude+sharing])", [
            "scratch(of=l1(rate=0.5))", "scratch(of=magnitude(rate=0.5)+sharing(k=32))",
        ]),
        # Text is text.
        ("l1(rates='2-19=0.6,20=0.3')", ["l1(rate=0.5, rates='2-19=0.6,20=0.3')"]),
        ("l1(skip='a..b')", ["l1(rate=0.5, skip=('a..b',))"]),
        ("l1(skip='1..3')", ["l1(rate=0.5, skip=('1..3',))"]),
        ("l1(skip='''it's 1..3''')", ["l1(rate=0.5, skip=(\"it's 1..3\",))"]),
        (r"l1(skip='\'1..3')", ["l1(rate=0.5, skip=(\"'1..3\",))"]),
        ("l1(rate=0.5) # 1..3'\n, tic", ["l1(rate=0.5)", "tic(k=64)"]),
        # Each once.
        ("tic(k=[16, 16, 8..16/8])", ["tic(k=16)", "tic(k=8)"]),
        ("l1(rate=[0.5, 0.50, .5])", ["l1(rate=0.5)"]),
        ("[l1, l1(rate=0.5)]", ["l1(rate=0.5)"]),
    ],
)  # fmt: skip
def test_a_sweep_is_its_single_settings(text: str, settings: list[str]) -> None:
    assert read(text) == settings
    assert read(",".join(settings)) == settings


RANGES = "a range is written first..last/step, as in 16..64/16 or 0.1..0.9/0.2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tic(k=[])", "--methods: tic(k=[]): [] is an empty list; expected at least one value, as in k=[16, 32]"),
        ("l1(skip=[[16, 20]])", "--methods: l1(skip=[[16, 20]]): a list in a list; a value of several parts has round"),
        ("tic(k=64..16)", "--methods: tic(k=64..16): 64..16: ends below its beginning; write the smaller number first"),
        ("l1(rate=0.1..0.9)", "--methods: l1(rate=0.1..0.9): 0.1..0.9: needs a step, as in 0.1..0.9/0.1"),
        ("l1(rate=0..1/0)", "--methods: l1(rate=0..1/0): 0..1/0: the step has to be above 0"),
        ("tic(k=0..8*2)", "--methods: tic(k=0..8*2): 0..8*2: with * the first number has to be above 0 and the factor"),
        ("tic(k=1..8*1)", "--methods: tic(k=1..8*1): 1..8*1: with * the first number has to be above 0 and the factor"),
        ("tic(k=1..9e999)", "--methods: tic(k=1..9e999): 9e999: a range takes numbers of up to 30 characters"),
        (f"tic(k=1..{'9' * 40})", f"--methods: tic(k=1..{'9' * 40}): {'9' * 30}: a range takes numbers of up to 30"),
        ("tic(k=1..)", f"--methods 'tic(k=1..)': cannot be read at ')'; {RANGES}"),
        ("tic(k=1..2..3)", f"--methods 'tic(k=1..2..3)': cannot be read at '1..2..3)'; {RANGES}"),
        ("tic(k=1...3)", f"--methods 'tic(k=1...3)': cannot be read at '.3)'; {RANGES}"),
        ("tic(k=a..b)", f"--methods 'tic(k=a..b)': cannot be read at '.b)'; {RANGES}"),
        ("tic(k=1..3 4)", "--methods 'tic(k=1..3 4)': cannot be read at '1..3 4)'; write it like 'tic(k=64),kse(G=4)'"),
        ("tic(k=16-64)", "--methods: '16 - 64' is not a value; quote text that is not one word; a range has two dots"),
        ("tic(k=16,32)", "--methods 'tic(k=16,32)': cannot be read at ')'; write it like 'tic(k=64),kse(G=4)', and"),
        ("tic(1..3)", "--methods: tic(1..3): options have names, as in tic(k=64)"),
        ("tic(k=[16, 0])", "--methods: tic(k=0): k should be greater than or equal to 1"),
        ("tic(k=8..32*1.5)", "--methods: tic(k=8.0): k should be a valid integer"),
        ("tic(k=1..10001)", "--methods: tic(k=1..10001): 10,001 settings, at most 10,000 are taken; shorten a list"),
        ("tic(k=1..200)+tic(k=1..51)", "--methods: tic(k=1..200) + tic(k=1..51): 10,200 settings, at most 10,000"),
        ("tic(k=1..9000),kse(G=1..9000)", "--methods: kse(G=1..9000): 18,000 settings, at most 10,000 are taken"),
        ("l1(rate=0..1/1e-300)", "--methods: l1(rate=0..1/1e-300): more than 1,000,000,000,000,000 settings, at most"),
        ("tic(k=1..1e300*1.0000001)", "--methods: tic(k=1..1e300*1.0000001): 6,907,755,6"),
        ("+".join(["tic(k=1..99)"] * 200), "--methods: tic(k=1..99) + "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sweep_is_one_line(text: str, told: str) -> None:
    started = time.monotonic()
    with pytest.raises(BenchError) as caught:
        read(text)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert time.monotonic() - started < 20


def test_what_is_no_range_stays_what_it_was() -> None:
    assert all(read_range(text) is None for text in ("", "1", "1.5", "a..b", "1..", "..2", "1...2", "1..2/", "1 2..3"))


def test_the_most_that_is_taken_is_read_within_seconds() -> None:
    started = time.monotonic()
    assert len(read("tic(k=1..10000)")) == 10_000
    assert time.monotonic() - started < 30


PIECES = ["tic", "l1", "k", "rate", "skip", "(", ")", "[", "]", "{", "+", ",", "=", "..", ".", "/", "*", "1", "0.5",
          "-", "16..32/8", "1..3", "'", '"', "\\", "#", "'''", "\n", " ", "__range_0__", "none"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_is_single_settings_or_one_line(text: str) -> None:
    try:
        found = read(text)
    except BenchError as error:
        assert "\n" not in str(error)
    else:
        assert read(",".join(found)) == found


def test_operating_points_are_multiplied_with_a_sweep() -> None:
    aims = aims_of(with_dense(parse("l1(granularity=[kernel, weight])")), parse_points(["size=2,4"]))
    assert [str(aim) for aim in aims] == [
        f"l1(granularity={granularity}) at size={ratio}" for granularity in ("kernel", "weight") for ratio in (2, 4)
    ]
    with pytest.raises(BadArgument, match="rate is given; leave it out"):
        aims_of(parse("l1(rate=[0.3, 0.5])"), parse_points(["size=2"]))


def load(tmp_path: Path, text: str) -> list[Plan]:
    path = tmp_path / "some.yaml"
    path.write_text(textwrap.dedent(text))
    return load_suite(path, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "methods",
    ["tic(k=[16,32]), l1(rate=0.3..0.5/0.2)", "['tic(k=[16,32])', l1(rate=0.3..0.5/0.2)]", "\n  - tic(k=[16, 32])\n"
     "  - l1(rate=0.3..0.5/0.2)", "[tic(k=16..32*2), l1(rate=0.3..0.5/0.2)]"],
)  # fmt: skip
def test_suites_sweep_methods(methods: str, tmp_path: Path) -> None:
    (plan,) = load(tmp_path, f"runs:\n- models: resnet20\n  methods: {methods}")
    assert [str(each) for each in plan.settings] == ["none", "tic(k=16)", "tic(k=32)", "l1(rate=0.3)", "l1(rate=0.5)"]


@pytest.mark.parametrize(
    ("epochs", "values"),
    [("2", [2]), ("[0, 1, 0.5]", [0, 1, 0.5]), ("0..4/2", [0, 2, 4]), ("[0, 0.1..0.3/0.1, 0]", [0, 0.1, 0.2, 0.3])],
)
def test_suites_sweep_epochs(epochs: str, values: list[float], tmp_path: Path) -> None:
    text = (
        f"defaults: {{epochs: {epochs}, methods: tic}}\nruns: [{{models: resnet20}}, {{models: resnet20, epochs: 9}}]"
    )
    *plans, last = load(tmp_path, text)
    assert [plan.epochs for plan in plans] == values and last.epochs == 9
    assert all(isinstance(plan.epochs, float) for plan in plans)


def test_a_model_is_opened_once_for_all_its_budgets(tmp_path: Path) -> None:
    plans = load(tmp_path, "runs: [{models: [resnet20, resnet32], methods: tic, epochs: [0, 1]}]")
    assert [(*plan.models, plan.epochs) for plan in plans] == [
        ("resnet20", 0), ("resnet20", 1), ("resnet32", 0), ("resnet32", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("epochs: []", "line 4: epochs []: expected at least one"),
        ("epochs: [1, x]", "line 4: epochs 'x': expected a number, as in 0.05"),
        ("epochs: [1, -1]", "line 4: epochs -1: should be greater than or equal to 0"),
        ("epochs: 4..1", "line 4: epochs '4..1': 4..1: ends below its beginning; write the smaller number first"),
        ("epochs: 0..1/1e-9", "line 4: epochs '0..1/1e-9': 1,000,000,001 budgets, at most 10,000 are taken"),
        ("epochs: [[1, 2]]", "line 4: epochs [1, 2]: expected a number, as in 0.05"),
        ("seeds: [1, 2]", "line 4: seeds [1, 2]: expected a whole number"),
    ],
)
def test_a_mistake_in_a_suites_sweep_names_its_line(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        load(tmp_path, f"runs:\n- models: resnet20\n  methods: tic\n  {line}")
    assert str(caught.value).startswith(f"suite {tmp_path / 'some.yaml'}, {told}")
    with pytest.raises(BenchError, match=r"line 3: tic\(k=4\.\.2\): 4\.\.2: ends below its beginning"):
        load(tmp_path, "runs:\n- models: resnet20\n  methods: tic(k=4..2)")


def test_a_sweep_is_run_as_single_settings(bench_command: Say, image_folder: Path, tmp_path: Path) -> None:
    words = ["run", "--models", "resnet20", "--weights", "scratch", "--dataset", f"folder:{image_folder}",
             "--epochs", "0", "--store", tmp_path / "runs", "--no-tracking", "--methods"]  # fmt: skip
    said = bench_command(*words, "magnitude(rate=0.2..0.4/0.2)+quantize(bits=[8, 4])", "--dry-run")
    assert said.code == 0 and "5 to run" in said.out and ".." not in said.out and "[" not in said.out
    said = bench_command(*words, "magnitude(rate=0.2..0.4/0.2)+quantize(bits=8)")
    records = {record.setting: record for record in Store(tmp_path / "runs").records()}
    assert said.code == 0
    assert set(records) == {"none", *(f"magnitude(rate={rate})+quantize(bits=8)" for rate in (0.2, 0.4))}
    one = records["magnitude(rate=0.4)+quantize(bits=8)"]
    assert "0.2..0.4/0.2" in one.config["command"] and "'magnitude(rate=0.4)+quantize(bits=8)'" in one.config["repeat"]
    assert one.config["stages"][0]["rate"] == 0.4 and ".." not in json.dumps(one.config | {"command": ""})
    said = bench_command(*words, "magnitude(rate=[0.2, 0.4])+quantize(bits=8)")
    assert "3 of 3 trials were recorded before" in said.err


def test_one_setting_is_not_a_sweep(bench_command: Say, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match=r"^setting='tic\(k=\[4, 8\]\)': 2 settings; expected one, as 'tic\(k=64\)'"):
        bench.compress("resnet20", "tic(k=[4, 8])", image_folder)
    with pytest.raises(BenchError, match=r"of should be one setting, not 2$"):
        parse("scratch(of='l1(rate=[0.3, 0.5])')")
