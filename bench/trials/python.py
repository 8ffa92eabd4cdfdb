"""`bench.run` and `bench.compress`: what the command line does, from Python, for a script or a notebook.

    net = torchvision.models.resnet18(num_classes=3)
    net.load_state_dict(torch.load("mine.pth"))
    frame = bench.run("tic(k=64),l1(rate=0.5)", net, "photos", epochs=2)
    frame[["setting", "top1", "compression_ratio", "latency_speedup"]]

    compressed = bench.compress(net, "tic(k=64)", "photos", epochs=2)
    compressed.figures["top1"], compressed.figures["compression_ratio"]
    compressed.save("net.safetensors")
    net = bench.load("net.safetensors", model=net)

A network is identified by its name, its structure, the code of its classes and its weights. If any of them changes, it
is another trial.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from torch import nn

from bench.data.dataset import Dataset
from bench.encodings import artifact
from bench.leaderboard.summary import frame_of
from bench.networks import zoo
from bench.networks.own import Handed
from bench.plugins.registry import datasets, open_dataset
from bench.plugins.setting import Pipeline, parse, with_dense
from bench.records.record import FIGURES, Record
from bench.records.rules import Epochs, ImageSize, Seed, SeedCount, check
from bench.records.store import MODEL, Store
from bench.system.environment import select_device
from bench.system.errors import BadArgument, BenchError
from bench.system.files import write_atomically
from bench.trials import run as harness
from bench.trials.baseline import load_task
from bench.trials.plan import Plan
from bench.trials.points import parse_points
from bench.trials.ruler import Ruler
from bench.trials.shards import parse_shard
from bench.trials.trial import Trial, run_trial

if TYPE_CHECKING:
    from pandas import DataFrame


class MoreOptions(TypedDict, total=False):
    """The other options of `bench run`, with the same names."""

    data_root: Path | None
    attack: int
    attack_distance: int
    recalibrate: bool
    timed: bool


def run(
    methods: str,
    models: str | nn.Module | Sequence[str | nn.Module] | Mapping[str, nn.Module],
    dataset: str | Path = Plan.dataset,
    *,
    at: str | Sequence[str] = (),
    weights: str | Path = Plan.weights,
    image_size: int | None = None,
    epochs: float = Plan.epochs,
    seeds: int = 1,
    device: str = "auto",
    store: Path | str = "runs",
    shard: str = "1/1",
    **more: Unpack[MoreOptions],
) -> DataFrame:
    """Run methods on models as `bench run` does, and return the records, one row each, as `bench.load_records` does.

    `methods` are settings and sweeps, `"tic(k=[32, 64]),l1"`; the dense network is always among them. `models` is one
    model, a list, or a mapping from names for the results to models. A model is a name, or a network with its weights.
    `dataset` is a name, `folder:PATH`, or a folder of images. The others are the command line's: `at="size=4,8"`,
    `image_size` (pixels), `epochs` (passes over the training images), `seeds`; in `more` also `data_root`, `attack`,
    `attack_distance`, `recalibrate` and `timed`. Trials that the store has are not run again; MLflow gets nothing. A
    failed trial is a row with an `error`. Raises BenchError for input that cannot be run.
    """
    check("seeds", seeds, SeedCount)
    plan = Plan(
        settings=with_dense(parse(methods, "methods")),
        models=_networks(models),
        dataset=_spec(dataset),
        weights=str(weights),
        image_size=image_size,
        epochs=epochs,
        seeds=range(seeds),
        at=parse_points([at] if isinstance(at, str) else at),
        device=select_device(device),
        command="bench.run",
        shard=parse_shard(shard),
        **more,
    )
    return frame_of(harness.run(plan, Store(Path(store))).records)


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed network, the record of its trial, and the content of its artifact.

    `model` is the network that was measured, read from the artifact. It is on the CPU, in evaluation mode, with its
    encodings in place, so that it can be trained further.
    """

    model: nn.Module
    record: Record
    content: bytes

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured, by the names in a record; figures that were not measured are left out."""
        measured = {name: getattr(self.record, name) for name in FIGURES}
        return {name: value for name, value in measured.items() if value is not None}

    def save(self, path: Path | str) -> Path:
        """Write the artifact. `bench.load` reads it; a network without a registered name needs `model=`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.content)
        return path

    def __repr__(self) -> str:
        named = ("top1", "top1_dense", "compression_ratio", "macs_ratio", "latency_speedup")
        told = ", ".join(f"{name}={getattr(self.record, name):.4g}" for name in named if name in self.figures)
        return f"Compressed({self.record.model}, {self.record.setting}: {told})"


def compress(
    model: str | nn.Module,
    setting: str,
    data: str | Path | Dataset,
    *,
    weights: str | Path = "auto",
    image_size: int | None = None,
    epochs: float = Plan.epochs,
    seed: int = 0,
    recalibrate: bool = Plan.recalibrate,
    device: str = "auto",
) -> Compressed:
    """Compress one network with one setting, measure it, and return it with its figures. `model` is not changed.

    `model` is a network with its weights, or a name as on the command line. `setting` is `"tic(k=64)"` or a pipeline,
    `data` a dataset's name, `folder:PATH`, the path of a folder of images, or a `bench.Dataset`. `epochs` is the budget
    for training, in passes over the training images. `weights`, `image_size`, `recalibrate` and `device` are as for
    `run`. Raises BenchError where the setting cannot be applied.
    """
    check("epochs", epochs, Epochs)
    check("seed", seed, Seed)
    if image_size is not None:
        check("image_size", image_size, ImageSize)
    (network,) = _networks(model)
    if isinstance(network, str):
        zoo.check_name(network)
    pipeline = _one(setting)
    dataset = data if isinstance(data, Dataset) else open_dataset(_spec(data))
    place = select_device(device)
    ruler = Ruler(load_task(network, dataset, str(weights), place, image_size), place)
    ruler.announce()
    trial = Trial(ruler.task, pipeline, seed, epochs, place, recalibrate=recalibrate)
    with tempfile.TemporaryDirectory() as folder:
        record = run_trial(trial, ruler, Path(folder), "bench.compress")
        if record.error is not None:
            raise BenchError(f"{setting} on {network}: {record.error}")
        path = Path(folder) / MODEL
        compressed = artifact.load(path, model=ruler.task.unnamed, folded=False, allow_download=True)
        return Compressed(compressed, record, path.read_bytes())


def _one(setting: str) -> Pipeline:
    settings = parse(setting, "setting")
    if len(settings) != 1:
        raise BadArgument("setting", setting, f"{len(settings)} settings; expected one, as 'tic(k=64)'; use bench.run")
    return settings[0]


def _networks(models: Any) -> list[str | Handed]:
    """Names and networks; BadArgument for anything else, and if two networks would have the same name."""
    if isinstance(models, str):
        models = [name.strip() for name in models.split(",")]
    elif not isinstance(models, Mapping | Sequence):
        models = [models]
    named = models.items() if isinstance(models, Mapping) else [(None, model) for model in models]
    networks = [_network(name, model) for name, model in named]
    names = [str(network) for network in networks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadArgument("models", twice, "two networks have this name; give names, as in {'a': net, 'b': other}")
    return networks


def _network(name: str | None, model: Any) -> str | Handed:
    if isinstance(model, nn.Module):
        return Handed(name or type(model).__name__, model)
    if isinstance(model, str) and name is None:
        return model
    raise BadArgument("models", model, "expected the name of a network, or a torch.nn.Module")


def _spec(dataset: str | Path) -> str:
    """The dataset's name; a path of a folder becomes `folder:PATH`."""
    known = str(dataset).partition(":")[0] in datasets()
    return f"folder:{dataset}" if isinstance(dataset, Path) or (not known and Path(dataset).exists()) else dataset
