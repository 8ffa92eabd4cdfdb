"""What must hold on a CUDA device too: `pytest -m gpu` where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.clustering.kmeans import kmeans
from bench.encodings import artifact, dihedral
from bench.encodings.artifact import Architecture
from bench.execution.choice import fastest, smallest
from bench.execution.executable import execute
from bench.networks.layers import fold, on_device
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.pruning import criteria as ranking
from bench.pruning.feature_maps import FeatureMaps
from bench.records.store import Store
from bench.system.environment import select_device
from bench.training import loop, resuming
from bench.training.recalibration import recalibrate
from bench.trials.run import Plan, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("method", [name for name in registry.methods() if name != "none"])
def test_every_method_runs_from_end_to_end(method: str, image_folder: Path, tmp_path: Path) -> None:
    settings = parse({"tic": "tic(k=4)"}.get(method, method))
    plan = Plan(
        settings=settings,
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        attack=20,
        device=select_device("cuda"),
    )
    (record,) = run(plan, Store(tmp_path / "runs")).records
    assert record.status == "ok", record.error
    assert record.device.startswith("cuda") and record.peak_memory_mb and record.peak_memory_mb > 0
    assert record.attack_images == 20 and record.robust_top1 is not None
    assert record.config["precision"]["measuring"] == "float32"


@pytest.mark.parametrize("method", ["l1", "dynamic", "taylor(steps=2)"])
def test_a_killed_training_goes_on(
    method: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_cycle(progress: float) -> float:
        updates.append(progress)
        if len(updates) == 6:
            raise KeyboardInterrupt
        return schedule(progress)

    updates, schedule = list[float](), loop.one_cycle
    monkeypatch.setattr(loop, "one_cycle", one_cycle)
    monkeypatch.setattr(resuming, "SECONDS", 0.0)
    plan = Plan(
        settings=parse(method),
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        epochs=12,
        device=select_device("cuda"),
    )
    with pytest.raises(KeyboardInterrupt):
        run(plan, Store(tmp_path / "runs"))
    (record,) = run(plan, Store(tmp_path / "runs")).records
    assert record.status == "ok" and any(note.startswith("resumed after") for note in record.notes), record


def test_a_network_compressed_on_the_device_reloads_to_the_same_outputs(
    make_model: Callable[..., torch.nn.Module], make_lab: Callable[..., object], tmp_path: Path
) -> None:
    device = select_device("cuda")
    for setting in ("tic(k=4)", "kse", "l1"):
        lab = make_lab()
        lab.example_input = lab.example_input.to(device)  # type: ignore[attr-defined]
        model = parse(setting)[0].compress(on_device(make_model(), device), lab).eval()  # type: ignore[arg-type]
        path = tmp_path / "model.safetensors"
        path.write_bytes(artifact.dump(model, Architecture("resnet20", 4, 3)))
        images = torch.randn(3, 3, 32, 32, device=device)
        with torch.no_grad():
            assert torch.allclose(on_device(artifact.load(path), device)(images), fold(model)(images), atol=1e-5)


@pytest.mark.parametrize("transforms", [1, 8])
def test_clustering_is_as_good_as_on_a_processor(transforms: int) -> None:
    points = torch.randn(1, 6000, 9, generator=torch.Generator().manual_seed(0))
    group = dihedral(3, 3, transforms)
    host = kmeans(points, 16, torch.Generator().manual_seed(0), permutations=group)
    there = kmeans(points.cuda(), 16, torch.Generator().manual_seed(0), permutations=group)
    assert there.inertia.item() == pytest.approx(host.inertia.item(), rel=0.01)


def test_filters_are_ranked_as_on_a_processor(make_model: Callable[..., torch.nn.Module]) -> None:
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
    found = {}
    for device in (torch.device("cpu"), select_device("cuda")):
        maps = FeatureMaps(on_device(make_model(), device), images[:1].to(device))
        batches = [(images.to(device), labels.to(device))]
        oracle, taylor = ranking.loss_changes(maps, batches), ranking.taylor_scores(maps, batches)
        found[device.type] = [oracle, taylor, *ranking.activation_scores(maps, batches).values()]
    for host, there in zip(found["cpu"], found["cuda"], strict=True):
        assert all(torch.allclose(host[name], there[name], rtol=1e-2, atol=1e-5) for name in host)


def test_statistics_are_re_estimated_as_on_a_processor_and_in_full_precision(
    make_model: Callable[..., torch.nn.Module],
) -> None:
    images = torch.randn(2, 8, 3, 32, 32)
    found = []
    for device in (torch.device("cpu"), select_device("cuda")):
        model = on_device(make_model(), device)
        recalibrate(model, [(batch.to(device), torch.zeros(8).long()) for batch in images])
        found.append({name: value.cpu() for name, value in model.state_dict().items()})
    assert all(torch.allclose(value, found[1][name], rtol=1e-3, atol=1e-4) for name, value in found[0].items())


@pytest.mark.parametrize("setting", ["fixed(keep=0.5)", "kse(T=6)", "tic(k=2,transforms=1)", "magnitude(rate=0.95)"])
def test_the_executable_form_computes_the_same(
    setting: str, make_model: Callable[..., torch.nn.Module], make_lab: Callable[..., object]
) -> None:
    device = select_device("cuda")
    model = on_device(parse(setting)[0].compress(make_model(), make_lab()), device).eval()  # type: ignore[arg-type]
    images = torch.randn(8, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = fold(model)(images)
        for judge in (smallest, fastest):
            found = execute(model, images, judge)
            assert (found.network(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
            assert judge is fastest or any(layer.form != "dense" for layer in found.layers.values())
