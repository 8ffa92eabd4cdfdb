"""What a compressed network is held to in a cell of the sweep."""

from __future__ import annotations

import re
from collections import Counter
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from sweep_families import CLASSES, build, line
from sweep_table import Cell
from torch import nn

from bench.data.dataset import Pixels, Recipe
from bench.data.feed import Feed
from bench.encodings import artifact
from bench.encodings.artifact import Architecture
from bench.encodings.base import encoding_of
from bench.measuring import cost, pictures
from bench.networks import zoo
from bench.networks.layers import convolutions, fold
from bench.plugins.setting import Pipeline
from bench.system.errors import BenchError
from bench.training.lab import Lab


def laboratory(size: int) -> Lab:
    """No budget; eight random images to train on and eight held out."""
    generator = torch.Generator().manual_seed(1)
    plain = zoo.Preprocessing((3, size, size), (0.5,) * 3, (0.25,) * 3)

    def feed() -> Feed:
        images = torch.randint(0, 256, (8, 3, size, size), generator=generator, dtype=torch.uint8)
        labels = torch.arange(8) % CLASSES
        return Feed(Pixels(images, labels), plain, torch.device("cpu"), Recipe(epochs=1, batch_size=4))

    return Lab(feed(), epochs=0, seed=0, tuning=feed())


def check(found: Cell, setting: Pipeline) -> Cell:
    """Compress the network and hold what comes out to everything that is promised."""
    dense, lab = build(found.model, found.image_size), laboratory(found.image_size)
    facts = {"model": found.model, "image_size": found.image_size, "params": found.params}
    facts["layers"] = len(convolutions(dense))
    try:
        model = setting.compress(deepcopy(dense), lab).eval()
    except BenchError as error:
        return Cell(found.family, str(setting), "refused", **facts, reason=line(error))
    _same_outputs(dense, model, found)
    _sound_figures(dense, model, found.image_size, lab.notes)
    left = _left(dense, model)
    if silent := [name for name in left if not lab.notes.get(name)]:
        assert setting.name == "none", f"left as it was without a word: {silent[0]} and {len(silent) - 1} more"
    smaller = facts["layers"] - len(left)
    status = "ok" if not left or setting.name == "none" else "partly" if smaller else "dense"
    names = set(dict(dense.named_modules()))
    reasons = Counter(_general(lab.notes[name], names) for name in left if name in lab.notes)
    words = "; ".join(f"{count}x {reason}" for reason, count in reasons.most_common())
    return Cell(found.family, str(setting), status, **facts, smaller=smaller, reason=words)


@torch.no_grad()
def _same_outputs(dense: nn.Module, model: nn.Module, found: Cell) -> None:
    """The network, folded, put densely into a fresh one, and reloaded from its file in both forms."""
    images = torch.randn(2, 3, found.image_size, found.image_size, generator=torch.Generator().manual_seed(2))
    expected = model(images)
    assert expected.shape == (2, CLASSES), f"outputs of shape {tuple(expected.shape)}"
    assert expected.isfinite().all(), "outputs are not finite"
    folded, originals = fold(model), dense.state_dict()
    twins = {"the folded network": folded}
    if all(tensor.shape == originals[name].shape for name, tensor in folded.state_dict().items()):
        twins["the dense network with the decoded weights"] = deepcopy(dense)
        twins["the dense network with the decoded weights"].load_state_dict(folded.state_dict())
    architecture = Architecture(found.model, CLASSES, 3, found.image_size)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(artifact.dump(model, architecture))
        twins |= {"the reloaded network": artifact.load(path), "reloaded encoded": artifact.load(path, folded=False)}
    for what, twin in twins.items():
        apart = float((twin(images) - expected).abs().max()) / float(expected.abs().max())
        assert apart < 1e-5, f"{what} computes something else, by {apart:.2g} of the largest output"


def _sound_figures(dense: nn.Module, model: nn.Module, size: int, notes: dict[str, str]) -> None:
    figures = cost.compare(dense, model, (3, size, size), notes)
    assert 0 < figures.macs <= figures.macs_dense, f"{figures.macs} MACs of {figures.macs_dense}"
    assert 0 < figures.params <= figures.params_dense, f"{figures.params} parameters of {figures.params_dense}"
    layers, originals = convolutions(model), convolutions(dense)
    for name, note in notes.items():
        if counted := re.fullmatch(r"(\d+) of (\d+) filters kept", note):
            shapes = len(layers[name].weight), len(originals[name].weight)
            assert shapes == (int(counted[1]), int(counted[2])), f"{name}: {note}, but it has {shapes[0]}"
    pictures.of_encodings(model)


def _left(dense: nn.Module, model: nn.Module) -> list[str]:
    """Convolutions that are neither encoded nor smaller."""
    originals = convolutions(dense)
    return [
        name
        for name, layer in convolutions(model).items()
        if encoding_of(layer) is None and layer.weight.numel() >= originals[name].weight.numel()
    ]


def _general(note: str, names: set[str]) -> str:
    """A reason without the names and figures of one network."""
    note = re.sub(r"(tied by sums to one another|tied to some of the channels)\b.*", r"\1", note)
    note = re.sub(r"tied to .*, no convolution", "tied to a layer that is no convolution", note)
    note = " ".join("_" if word.strip(",:;()") in names else word for word in note.split())
    return re.sub(r"\d+ of \d+", "n of m", note).removeprefix("all filters kept: ")
