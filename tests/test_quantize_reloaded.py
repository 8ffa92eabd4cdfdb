"""Numbers of few bits, stored and reloaded for every method."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.encodings import artifact
from bench.encodings.base import codebooks_of, encoded_layers
from bench.encodings.grid import WIDTHS
from bench.networks.layers import fold, weighted_layers
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.training.lab import Lab

MakeLab = Callable[..., Lab]

OTHERS = [
    "l1(rate=0.5, granularity=weight)",
    "l1(rate=0.5, granularity=kernel)",
    "dynamic(rate=0.5, granularity=weight)",
    "l1(rate=0.5, granularity=kernel)+tic(k=4)",
    "magnitude(rate=0.8)+sharing(k=8)",
]
EVERY = [(kind.tested or (name,))[0] for name, kind in registry.methods().items() if name != "quantize"] + OTHERS


class Net(nn.Module):
    """A convolution of each kind, a residual sum and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.grouped, self.depthwise = nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8)
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stem(images)).relu()
        maps = maps + self.outer(self.inner(maps).relu())
        return self.fc(self.depthwise(self.grouped(maps).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def once() -> dict[str, nn.Module]:
    return {}


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("setting", EVERY)
def test_what_any_method_stores_reloads_bit_for_bit(
    setting: str,
    bits: int,
    once: dict[str, nn.Module],
    make_lab: MakeLab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifact.zoo, "create_model", lambda *words, **options: Net())
    if setting not in once:
        torch.manual_seed(0)
        once[setting] = parse(setting)[0].compress(Net().eval(), make_lab())
    model = parse(f"quantize(bits={bits})")[0].compress(deepcopy(once[setting]), make_lab()).eval()
    architecture = artifact.Architecture("net", 4, 3)
    content = artifact.dump(model, architecture)
    (tmp_path / "model").write_bytes(content)
    state = {name: value for name, value in fold(model).state_dict().items() if "num_batches" not in name}
    reloaded = artifact.load(tmp_path / "model").state_dict()
    assert all(torch.equal(value, reloaded[name]) for name, value in state.items())
    assert artifact.dump(artifact.load(tmp_path / "model", folded=False), architecture) == content
    layers = dict((name, encoding) for name, _, encoding in encoded_layers(model))
    assert layers.keys() == weighted_layers(model).keys()
    counted = sum(encoding.bits() for encoding in layers.values()) + sum(book.bits for book in codebooks_of(model))
    counted += sum(32 * value.numel() for name, value in state.items() if name.removesuffix(".weight") not in layers)
    written = 8 * (len(content) - 8 - int.from_bytes(content[:8], "little"))
    assert counted <= written <= counted + 7 * 6 * len(layers), "each packed array is padded to a byte"
