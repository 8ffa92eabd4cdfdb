"""Artifacts that know their classes and preprocessing: written, read, trained further, and asked about images."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import nn

import bench
from bench.encodings import artifact
from bench.encodings.interface import Interface
from bench.encodings.manifest import FORMAT, Architecture, manifest_text
from bench.networks.structure import structure_digest
from bench.networks.zoo import Preprocessing
from bench.plugins.registry import methods
from bench.plugins.setting import parse
from bench.system.errors import BenchError

NAMES = ("T-shirt/top", "Kleid", "été", "четыре")
PREPARED = Preprocessing((3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "bilinear", 0.875, "center")
KNOWN = Interface.of(NAMES, PREPARED)
SETTINGS = [
    "none", "tic(k=4)", "kse", "l1(rate=0.5)", "magnitude", "sharing(k=8)", "quantize(bits=8)", "quantize(bits=3)",
    "fixed(keep=0.5)", "tic(k=4)+quantize(bits=4)", "magnitude(rate=0.7)+sharing(k=4)", "kse+quantize(bits=8)",
]  # fmt: skip


def write(model: nn.Module, path: Path, interface: Interface = KNOWN) -> bytes:
    content = artifact.dump(model, Architecture("resnet20", 4, 3), interface)
    path.write_bytes(content)
    return content


def with_manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The same artifact with another manifest."""
    with safe_open(path, "pt") as file:
        manifest = json.loads(manifest_text(file.metadata()))
        streams = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(manifest)
    text = base64.b85encode(zlib.compress(json.dumps(manifest).encode())).decode()
    path.write_bytes(serialized(streams, metadata={"format": FORMAT, "manifest": text}))
    return path


def test_a_network_knows_its_classes_and_preprocessing(make_model: Any, tmp_path: Path) -> None:
    write(make_model(), tmp_path / "model")
    for folded in (True, False):
        network: Any = bench.load(tmp_path / "model", folded=folded)
        assert (network.class_names, network.preprocessing) == (NAMES, PREPARED)


def test_a_file_without_them_still_loads(make_model: Any, tmp_path: Path) -> None:
    before = write(make_model(), tmp_path / "model", Interface())
    assert "interface" not in manifest_text(safe_open(tmp_path / "model", "pt").metadata())
    network: Any = bench.load(tmp_path / "model")
    assert (network.class_names, network.preprocessing) == (None, None)
    bench.save(network, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_saved_network_is_the_same_file(setting: str, make_model: Any, make_lab: Any, tmp_path: Path) -> None:
    model = parse(setting)[0].compress(make_model(), make_lab())
    before = write(model, tmp_path / "model")
    bench.save(bench.load(tmp_path / "model", folded=False), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_network_that_was_trained_further_keeps_its_encodings(
    setting: str, make_model: Any, make_lab: Any, tmp_path: Path
) -> None:
    model = parse(setting)[0].compress(make_model(), make_lab())
    before = write(model, tmp_path / "model")
    network = bench.load(tmp_path / "model", folded=False).train()
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8) % 4
    started = network(images).detach().clone()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    bench.save(network, tmp_path / "again")
    after = (tmp_path / "again").read_bytes()
    reloaded = bench.load(tmp_path / "again", folded=False)
    assert abs(len(after) - len(before)) <= 16, "of the same size, the deflated manifest aside"
    kinds = [
        {name: type(layer).__name__ for name, layer in net.named_modules() if isinstance(layer, bench.Encoding)}
        for net in (network, reloaded)
    ]
    assert kinds[0] == kinds[1]
    network.eval()
    assert not torch.allclose(network(images), started)
    assert torch.equal(reloaded(images), network(images))
    bench.save(reloaded, tmp_path / "third")
    assert (tmp_path / "third").read_bytes() == after


def test_every_method_is_saved_as_it_was(make_model: Any, make_lab: Any, tmp_path: Path) -> None:
    """With its default options where it has any; a method that needs training has a little."""
    named = {setting.partition("(")[0] for setting in SETTINGS}
    for name, method in sorted(methods().items()):
        if name in named:
            continue
        try:
            model = parse(name)[0].compress(make_model(), make_lab(epochs=1))
        except BenchError as error:
            assert "needs" in str(error) or "required" in str(error), (name, error)
            continue
        before = write(model, tmp_path / name)
        bench.save(bench.load(tmp_path / name, folded=False), tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == before, method


def test_another_network_is_not_saved(make_model: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not a network that bench.load returned"):
        bench.save(make_model(), tmp_path / "model")
    write(make_model(), tmp_path / "model")
    network: Any = bench.load(tmp_path / "model")
    network.class_names = ("one", "two")
    with pytest.raises(BenchError, match="cannot be saved: 2 class names for 4 classes"):
        bench.save(network, tmp_path / "again")
    network.class_names = ("one", "two", "\x1b[2J", "four")
    with pytest.raises(BenchError, match="class_names.2: is empty or cannot be printed"):
        bench.save(network, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("class_names", ["a", "b", "c"], "3 class names for 4 classes"),
        ("class_names", ["a", "b", "c", "\x1b[31m"], "cannot be printed"),
        ("class_names", ["a", "b", "c", "d" * 1001], "at most 1000"),
        ("class_names", 4, "valid array"),
        ("input", {"size": [3, 32, 99999]}, "less than or equal to 4096"),
        ("input", {"size": [1, 32, 32], "mean": [0], "std": [1]}, "images of 1 channels for a network of 3"),
        ("input", {"mean": [0.5]}, "3 channels, 1 means and 3 deviations"),
        ("input", {"std": [0, 1, 1]}, "greater than 0"),
        ("input", {"mean": [float("nan"), 0, 0]}, "finite"),
        ("input", {"interpolation": "__import__"}, "nearest"),
        ("input", {"crop_share": 0}, "greater than or equal to 0.05"),
    ],
)
def test_a_strangers_description_is_bounded(
    part: str, value: Any, problem: str, make_model: Any, tmp_path: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        known = manifest["interface"][part]
        manifest["interface"][part] = known | value if isinstance(value, dict) else value

    write(make_model(), tmp_path / "model")
    with pytest.raises(BenchError, match="its manifest does not describe a network") as told:
        bench.load(with_manifest(tmp_path / "model", change))
    assert problem in str(told.value) and "\n" not in str(told.value) and "\x1b" not in str(told.value)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Of different sizes and modes."""
    generator = np.random.default_rng(0)
    paths = []
    for index, (width, height, mode) in enumerate([(60, 40, "RGB"), (32, 32, "RGB"), (33, 90, "L")]):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).convert(mode).save(paths[-1])
    return paths


def test_images_are_read_as_in_a_trial(photographs: list[Path]) -> None:
    """Large ones as the batches of files are, small ones as a folder of small images is."""
    from bench.data.dataset import Files, Recipe
    from bench.data.feed import Feed
    from bench.deploying.images import read_files

    files = Files(tuple(photographs), torch.zeros(3, dtype=torch.int64))
    ((batch, _),) = Feed(files, PREPARED, torch.device("cpu"), Recipe(epochs=1)).once()
    assert torch.equal(read_files(photographs, PREPARED), batch)


def test_small_images_are_read_as_a_folder_of_them_is(photographs: list[Path], tmp_path: Path) -> None:
    from bench_datasets.folder import Folder

    from bench.deploying.images import first_images, read_files
    from bench.testing.fixtures import zoo
    from bench.trials.ruler import Ruler
    from bench.trials.task import Task

    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for path in photographs[1:2] if part == "train" else photographs[:2]:
                with Image.open(path) as image:
                    image.resize((image.width - 2, image.height)).save(tmp_path / "data" / part / name / path.name)
    dataset = Folder.open(str(tmp_path / "data"), None)
    plain = Preprocessing(dataset.input_shape, dataset.mean, dataset.std)
    task = Task("resnet20", zoo.create_model("resnet20", 2, 3), "scratch", "", dataset, plain, {})
    ruler = Ruler(task, torch.device("cpu"))
    wanted = task.interface.preprocessing
    assert wanted is not None and task.interface.class_names == ("a", "b")
    ((expected, _),) = ruler.test_feed.once()
    paths = sorted((tmp_path / "data" / "test").glob("*/*.png"))
    assert torch.allclose(read_files(paths, wanted), expected, atol=1e-6)
    (shown,) = first_images(dataset, wanted, 100)
    assert torch.allclose(shown, expected, atol=1e-6)


def test_predictions_are_named(make_model: Any, photographs: list[Path], tmp_path: Path, bench_command: Any) -> None:
    write(make_model(), tmp_path / "model")
    said = bench_command("predict", tmp_path / "model", *photographs)
    assert said.code == 0 and said.err == ""
    lines = said.out.splitlines()
    assert len(lines) == 3 * (1 + 4), "four classes only"
    network = bench.load(tmp_path / "model")
    from bench.deploying.images import read_files

    shares = network(read_files(photographs, PREPARED)).softmax(1)
    for index, path in enumerate(photographs):
        head, *rows = lines[5 * index : 5 * index + 5]
        assert head == str(path)
        order = shares[index].argsort(descending=True).tolist()
        assert [row.split("  ")[-1] for row in rows] == [NAMES[place] for place in order]
        assert rows[0].split()[0] == f"{shares[index].max().item():.2%}"
    assert len(bench_command("predict", "--top", "2", tmp_path / "model", photographs[0]).out.splitlines()) == 3


def test_synsets_are_given_in_words(make_model: Any, photographs: list[Path], tmp_path: Path) -> None:
    from bench.deploying.predicting import predict

    names = ("n01440764", "n01443537", "n01484850", "n01491361")
    write(make_model(), tmp_path / "model", Interface.of(names, PREPARED))
    (one,) = predict(bench.load(tmp_path / "model"), photographs[:1])
    assert {name.split(",")[0] for name, _ in one.classes} == {
        "n01440764 tench", "n01443537 goldfish", "n01484850 great white shark", "n01491361 tiger shark"
    }  # fmt: skip


def test_mistakes_are_one_line(make_model: Any, photographs: list[Path], tmp_path: Path, bench_command: Any) -> None:
    write(make_model(), tmp_path / "model")
    assert "there is no such file" in bench_command("predict", tmp_path / "no", photographs[0]).mistake
    assert "no.png cannot be read" in bench_command("predict", tmp_path / "model", tmp_path / "no.png").mistake
    assert "cannot be read" in bench_command("predict", tmp_path / "model", tmp_path / "model").mistake
    assert "images" in bench_command("predict", tmp_path / "model").mistake
    write(make_model(), tmp_path / "old", Interface())
    told = bench_command("predict", tmp_path / "old", photographs[0]).mistake
    assert told.startswith("the artifact does not say how images are prepared")


def test_the_code_of_a_network_of_ones_own_is_named(
    photographs: list[Path], tmp_path: Path, bench_command: Any
) -> None:
    from bench.testing.fixtures import zoo

    code = f"{Path(__file__).with_name('networks_of_mine.py')}:Residual"
    dense, path = zoo.create_model(code, 4, 3), tmp_path / "mine.safetensors"
    how = Architecture("mine.py:Residual", 4, 3, 32, structure_digest(dense))
    path.write_bytes(artifact.dump(dense, how, Interface.of(NAMES, PREPARED), dense))
    mistake = bench_command("predict", path, photographs[0]).mistake
    assert mistake.endswith("a network of your own, 'mine.py:Residual'; --model names its code")
    said = bench_command("predict", path, photographs[0], "--model", code)
    assert said.code == 0 and said.out.splitlines()[1].split("  ")[-1] in NAMES
    wrong = f"{Path(__file__).with_name('networks_of_mine.py')}:Plain"
    assert "its layers are not those" in bench_command("predict", path, photographs[0], "--model", wrong).mistake
