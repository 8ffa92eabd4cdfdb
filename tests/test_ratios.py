"""Speeds held against the committed ones, on times made up here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module")
def ratios() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ratios", BENCHMARKS / "ratios.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def times(**seconds: float) -> dict[str, Any]:
    """As pytest-benchmark writes them, all in one group."""
    return {
        "benchmarks": [
            {"group": "g", "name": name, "stats": {"min": value}, "extra_info": {"ours": True} if name == "us" else {}}
            for name, value in seconds.items()
        ]
    }


def test_a_ratio_is_the_alternatives_time_over_ours(ratios: ModuleType) -> None:
    assert ratios.measured(times(us=2.0, plain=7.0, other=1.0)) == {"g": {"plain": 3.5, "other": 0.5}}


@pytest.mark.parametrize("seconds", [{"plain": 1.0}, {"us": 1.0}])
def test_a_group_needs_ours_and_another(seconds: dict[str, float], ratios: ModuleType) -> None:
    with pytest.raises(ValueError, match="group 'g': "):
        ratios.measured(times(**seconds))


@pytest.mark.parametrize(("now", "code"), [(8.0, 0), (4.1, 0), (3.9, 1), (80.0, 0)])
def test_a_ratio_below_half_of_the_committed_one_fails(
    now: float, code: int, ratios: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "committed.json").write_text(json.dumps({"g": {"plain": 8.0}}))
    (tmp_path / "times.json").write_text(json.dumps(times(us=1.0, plain=now)))
    words = [str(tmp_path / "times.json"), "--committed", str(tmp_path / "committed.json")]
    assert ratios.main(words) == code
    assert f"g / plain: 8x → {now:g}x" in capsys.readouterr().out
    assert ratios.main([*words, "--update"]) == 0
    assert json.loads((tmp_path / "committed.json").read_text()) == {"g": {"plain": now}}
    assert ratios.main(words) == 0


def test_what_was_not_measured_fails_and_what_is_new_does_not(ratios: ModuleType) -> None:
    told, failed = ratios.compare({"g": {"plain": 8.0}}, {"h": {"plain": 8.0}})
    assert failed and told == ["FELL g / plain: 8x → not measured", "new  h / plain: not measured → 8x"]
    assert not ratios.compare({}, {"h": {"plain": 8.0}})[1]


def test_a_file_that_is_no_run_is_told(ratios: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ratios.main([str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("ratios: ")


def test_every_committed_ratio_is_of_a_benchmark_there_is() -> None:
    source = "".join(path.read_text() for path in BENCHMARKS.glob("test_*.py"))
    committed = json.loads((BENCHMARKS / "ratios.json").read_text())
    assert committed
    for group, alternatives in committed.items():
        assert f'group="{group}"' in source
        assert all(f"def {name.partition('[')[0]}(" in source and ratio > 0 for name, ratio in alternatives.items())
