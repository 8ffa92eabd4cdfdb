"""Records of trials that never ran, drawn at random, and the pages that are made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pandas
import pytest
from PIL import Image

from bench.leaderboard.page import write_html
from bench.leaderboard.summary import load_records, summarise

NETWORKS = {
    "resnet20": (0.27e6, 40e6),
    "resnet56": (0.85e6, 126e6),
    "vgg16_cifar": (14.7e6, 313e6),
    "resnet50": (23.5e6, 4100e6),
}
"""Weights and MACs."""
DATASETS = {"fashion-mnist": 0.94, "cifar10": 0.925, "cifar100": 0.69, "imagenet": 0.76}
DEVICES = ("cpu: AMD EPYC (2 threads)", "cuda: NVIDIA H100 80GB HBM3")
METHODS = {
    "tic": (0.4, 0.05, 0.0),
    "kse": (0.7, 0.6, 0.0),
    "l1": (1.6, 0.9, 0.55),
    "taylor": (1.2, 0.95, 0.6),
    "hrank": (1.3, 0.9, 0.5),
    "dynamic": (1.0, 0.5, 0.0),
    "random": (2.6, 0.9, 0.55),
    "l1+tic": (0.7, 0.4, 0.3),
}
"""Points of accuracy lost as the size goes down, and how much of that gain MACs and latency share."""
Trial = dict[str, Any]


def draw_settings(count: int) -> Iterator[tuple[str, str, float]]:
    """Method, setting, and how many times smaller it aims to be; dense first."""
    yield "none", "none", 1.0
    for index in range(count - 1):
        method, step = list(METHODS)[index % len(METHODS)], index // len(METHODS)
        gain = 2 ** (0.4 + 4 * step * len(METHODS) / count)
        special = {
            "tic": f"tic(k={int(640 / gain)})",
            "kse": f"kse(G={1 + step})",
            "l1+tic": f"l1(granularity=kernel, rate={1 - gain**-0.5:.3g})+tic(k={int(640 / gain)}, transforms=4)",
        }
        yield method, special.get(method, f"{method}(rate={1 - 1 / gain:.3g})"), gain


def draw_trials(tasks: int, per_task: int, seeds: int) -> Iterator[Trial]:
    draw = random.Random(0)
    places = [(m, d, e, b) for e in DEVICES for b in (1.0, 10.0) for m in NETWORKS for d in DATASETS][:tasks]
    for model, dataset, device, budget in places:
        task = {"model": model, "dataset": dataset, "device": device, "budget_epochs": budget}
        dense = DATASETS[dataset] + draw.uniform(-0.01, 0.01)
        for method, setting, gain in draw_settings(per_task):
            for seed in range(1 if method == "none" else seeds):
                trial = describe({**task, "method": method, "setting": setting, "seed": seed})
                yield trial | (FAILURE if draw.random() < 0.004 else measure(trial, dense, gain, draw))


FAILURE = {"status": "failed", "error": "Diverged: the loss is nan at step 131"}


def describe(trial: Trial) -> Trial:
    """What is known before it runs."""
    names = [trial[name] for name in ("model", "dataset", "device", "budget_epochs", "setting", "seed")]
    words = {"methods": f"'{trial['setting']}'", "models": trial["model"], "dataset": trial["dataset"]}
    return trial | {
        "fingerprint": sha256(str(names).encode()).hexdigest()[:16],
        "weights": f"{trial['model']}-{trial['dataset']}",
        "started_at": f"2026-11-20T10:{trial['seed']:02}:00.000+00:00",
        "versions": {"python": "3.12.4", "torch": "2.11.0", "timm": "1.0.31"},
        "config": {
            "protocol": 1,
            "stages": [{"method": stage, "rate": 0.5} for stage in trial["method"].split("+")],
            "preprocessing": {"size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3},
            "recipe": {"epochs": 4, "batch_size": 128, "lr": 0.1, "finetune_lr": 0.01, "momentum": 0.9},
            "seed": trial["seed"],
            "command": "bench run " + " ".join(f"--{name} {word}" for name, word in words.items()),
        },
        "notes": ["layer3.2.conv2 stays dense: no gain"] if trial["method"] == "kse" else [],
    }


def measure(trial: Trial, dense: float, gain: float, draw: random.Random) -> Trial:
    """What might come out."""
    lost, arithmetic, speed = METHODS.get(trial["method"], (0, 1, 1))
    drop = lost / 100 * (gain - 1) ** 0.8 / trial["budget_epochs"] ** 0.2 + (lost > 0) * draw.gauss(0, 0.0015)
    noise = 1 + draw.gauss(0, 0.012)
    params, macs = NETWORKS[trial["model"]]
    return {
        "status": "ok",
        "error": None,
        "epochs_spent": trial["budget_epochs"] if lost else 0.0,
        **{"top1": dense - drop, "top1_dense": dense, "top1_drop": drop, "loss": 1 - dense + drop},
        **{"compression_ratio": 1.01 * gain, "artifact_bytes": int(4 * params / gain), "dense_bytes": int(4 * params)},
        **{"macs": int(macs / gain**arithmetic), "macs_dense": int(macs), "macs_ratio": gain**arithmetic},
        **({"macs_full_ratio": 0.4 * gain**arithmetic} if trial["method"] == "kse" else {}),
        **{"latency_speedup": gain ** (0.8 * speed) * noise, "latency_ms_p50": 3 / noise},
        **{"throughput_speedup": gain**speed * noise, "throughput_ips": 1757.8 * gain**speed * noise},
        **{"throughput_batch": 32, "compress_seconds": 1.25, "fit_seconds": 31.5, "duration_seconds": 52.5},
    }


def draw_layers(trial: Trial) -> str:
    """layers.csv, as of a network with 19 convolutions."""
    lines = [
        "name,shape,encoding,params_dense,params,bits_dense,bits,macs_dense,macs,reason",
        "conv1,16x3x3x3,dense,432,432,13824,13824,442368,442368,the first convolution stays dense",
    ]
    for stage, block in product(range(1, 4), range(6)):
        width = 8 * 2**stage
        counts = [factor * 9 * width * width for factor in (1, 32, 59)]
        pairs = ",".join(f"{count},{int(0.9 * count / trial['compression_ratio'])}" for count in counts)
        lines.append(f"layer{stage}.{block}.conv1,{width}x{width}x3x3,scaled-kernels,{pairs},")
    return "\n".join(lines) + "\n"


def write_store(root: Path, tasks: int, per_task: int, seeds: int) -> None:
    for trial in draw_trials(tasks, per_task, seeds):
        folder = root / "records" / trial["fingerprint"]
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(trial, indent=2))
        if trial["status"] == "ok":
            (folder / "layers.csv").write_text(draw_layers(trial))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks with 41 settings and three seeds; one trial has a picture."""
    root = tmp_path_factory.mktemp("store")
    write_store(root, tasks=4, per_task=41, seeds=3)
    (folder,) = (path.parent for path in root.glob("records/*/record.json") if is_pictured(path))
    Image.new("RGB", (40, 30), "teal").save(folder / "kernel map.png")
    return root


def is_pictured(path: Path) -> bool:
    record = json.loads(path.read_text())
    return (record["dataset"], record["setting"], record["seed"]) == ("cifar10", "l1(rate=0.242)", 1)


@pytest.fixture(scope="module")
def frame(store: Path) -> pandas.DataFrame:
    return load_records(store)


@pytest.fixture(scope="module")
def summary(frame: pandas.DataFrame) -> pandas.DataFrame:
    return summarise(frame)


@pytest.fixture(scope="module")
def site(store: Path, frame: pandas.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write_html(frame, out, store)
    return out
