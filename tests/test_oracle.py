"""`bench oracle`: its correlations against sums by hand, its files, and what it refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from bench.data.dataset import Dataset
from bench.oracle.comparison import CRITERIA, Comparison, compare
from bench.oracle.picture import draw
from bench.oracle.report import table
from bench.system.terminal import output


def rho(one: list[float], other: list[float]) -> float:
    """Spearman's correlation where no two values are the same: 1 - 6 * sum d^2 / (n * (n^2 - 1))."""
    ranks = np.argsort(np.argsort(one)), np.argsort(np.argsort(other))
    return float(1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (len(one) * (len(one) ** 2 - 1)))


@pytest.fixture
def comparison() -> Comparison:
    """Two layers of four filters and one of two; `zeros` is the same everywhere in the first."""
    generator = np.random.default_rng(0)
    filters = pd.DataFrame({"layer": ["a"] * 4 + ["b"] * 4 + ["c"] * 2, "filter": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]})
    for name in (*CRITERIA, "oracle"):
        filters[name] = generator.random(10) * [1, 1, 1, 1, 50, 50, 50, 50, 3, 3]
    filters.loc[filters["layer"] == "a", "zeros"] = 1.0
    return Comparison("a network", filters, images=7)


def test_correlations_are_spearmans(comparison: Comparison) -> None:
    frame = comparison.filters
    for criterion in ("taylor", "weight"):
        for layer in "abc":
            rows = frame[frame["layer"] == layer]
            assert comparison.by_layer.loc[layer, criterion] == pytest.approx(
                rho([*rows[criterion]], [*rows["oracle"]])
            )
        found = comparison.summary.loc[criterion]
        assert found["per_layer"] == pytest.approx(comparison.by_layer[criterion].mean())
        assert found["all_layers"] == pytest.approx(rho([*frame[criterion]], [*frame["oracle"]]))
        norms = {layer: np.sqrt((frame[criterion][frame["layer"] == layer] ** 2).sum()) for layer in "abc"}
        scaled = [value / norms[layer] for value, layer in zip(frame[criterion], frame["layer"], strict=True)]
        assert found["all_layers_normalised"] == pytest.approx(rho(scaled, [*frame["oracle"]]))
    assert np.isnan(comparison.by_layer.loc["a", "zeros"])
    assert comparison.summary.loc["zeros", "per_layer"] == pytest.approx(
        comparison.by_layer["zeros"][["b", "c"]].mean()
    )


def test_the_table_has_a_dash_where_nothing_can_be_said(
    comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison.filters["mean"] = 0.0
    output().print(table(comparison))
    said = capsys.readouterr().out
    assert "10 filters, 7 images" in said
    (line,) = (line for line in said.splitlines() if line.startswith("mean "))
    assert line.split() == ["mean", "–", "–", "–"]


def test_the_picture_is_drawn_of_any_number_of_layers(comparison: Comparison) -> None:
    many = pd.concat([comparison.filters.assign(layer=comparison.filters["layer"] + str(n)) for n in range(30)])
    for filters in (comparison.filters, many):
        picture = Image.open(io.BytesIO(draw(Comparison("a network", filters.reset_index(drop=True), 7))))
        assert picture.format == "PNG" and picture.size[0] > 2000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 500


def test_every_filter_is_compared(make_model: Callable[..., nn.Module]) -> None:
    model = make_model("test_resnet")
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # residual branches start at zero
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    found = compare(model, images[:1], [(images[:2], labels[:2]), (images[2:], labels[2:])])
    layers = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(found.filters) == sum(layers) and found.images == 3
    assert [*found.filters.groupby("layer", sort=False).size()] == layers
    assert (found.filters["oracle"] > 0).mean() > 0.9
    assert found.summary.loc["taylor", "per_layer"] > found.summary.loc["random", "per_layer"]


def test_the_command_prints_and_keeps_what_it_found_and_never_sees_a_test_image(
    bench_command: Callable[..., Any], image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Dataset.split

    def watched(self: Dataset, part: str) -> object:
        assert part != "test"
        return split(self, part)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "split", watched)
    words = ("--models", "test_resnet", "--dataset", f"folder:{image_folder}", "--weights", "scratch")
    said = bench_command("oracle", *words, "--images", 4, "--device", "cpu", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "all layers, normalised" in said.out and "4 images" in said.out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["test_resnet-ramps-layers.csv", "test_resnet-ramps.csv", "test_resnet-ramps.png"]
    frame = pd.read_csv(tmp_path / "out" / "test_resnet-ramps.csv")
    assert list(frame) == ["layer", "filter", *[name for name in frame if name in CRITERIA], "oracle"]
    assert set(CRITERIA) < set(frame)
    assert all(str(tmp_path / "out" / name) in said.err for name in names)


def test_mistakes_are_told(bench_command: Callable[..., Any]) -> None:
    assert "--images 0" in bench_command("oracle", "--images", 0).mistake
    assert "nonsense" in bench_command("oracle", "--models", "nonsense").mistake
