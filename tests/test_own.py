"""Networks of a user's own: named by a file or a module, or handed over; and what goes wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bench
from bench.encodings import artifact
from bench.networks import zoo
from bench.networks.structure import structure_digest
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.system.errors import BadArgument, BenchError
from bench.trials.sources import network_digest
from bench.trials.task import Subject

MINE = Path(__file__).with_name("networks_of_mine.py")
NETWORKS = ("Residual", "Plain", "grouped")
SETTINGS = [setting for method in registry.methods().values() for setting in method.tested or (method.name,)]
Say = Callable[..., Any]


def build(name: str, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return zoo.create_model(f"{MINE}:{name}", classes, 3).eval()


def architecture(model: nn.Module, name: str) -> artifact.Architecture:
    return artifact.Architecture(name, 4, 3, 32, structure_digest(model))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_method_compresses_it_and_the_file_holds_the_same_network(
    setting: str, network: str, make_lab: Callable[..., Any], tmp_path: Path
) -> None:
    dense, model = build(network), build(network)
    lab = make_lab(epochs=1 if parse(setting)[0].stages[0].trains else 0)
    torch.manual_seed(0)
    model = parse(setting)[0].compress(model, lab).eval()
    path, images = tmp_path / "model.safetensors", torch.randn(3, 3, 32, 32)
    path.write_bytes(artifact.dump(model, architecture(dense, network), built=dense))
    with torch.no_grad():
        expected = model(images)
        assert expected.shape == (3, 4)
        for folded in (True, False):
            reloaded = bench.load(path, model=build(network), folded=folded)
            assert torch.allclose(reloaded(images), expected, rtol=1e-5, atol=1e-6)


def test_whole_numbers_are_those_of_the_network_that_was_compressed(tmp_path: Path) -> None:
    model = build("Counting")
    model.shift[0] = 5  # type: ignore[index,operator]
    path, images = tmp_path / "model.safetensors", torch.randn(2, 3, 32, 32)
    path.write_bytes(artifact.dump(model, architecture(model, "mine.py:Counting"), built=model))
    assert torch.equal(bench.load(path, model=build("Counting"))(images), model(images))


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    """Neither by the name in it nor under a name that looks registered: the structure says that none builds it."""
    marker, path = tmp_path / "ran", tmp_path / "model.safetensors"
    code = tmp_path / "mine.py"
    code.write_text(f"open({str(marker)!r}, 'w')\n" + MINE.read_text())
    dense = build("Residual")
    for name, digest in ((f"{code}:Residual", None), (f"{code}:Residual", structure_digest(dense))):
        path.write_bytes(artifact.dump(dense, artifact.Architecture(name, 4, 3, 32, digest), built=dense))
        told = (
            r"is not a registered network, .* build it for 4 classes and 3 channels, and call bench\.load\(path, model"
        )
        with pytest.raises(BenchError, match=told) as caught:
            bench.load(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not marker.exists()


def test_another_network_is_not_taken(tmp_path: Path) -> None:
    dense, path = build("Residual"), tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(dense, architecture(dense, "mine.py:Residual"), built=dense))
    other = build("Residual")
    other.down.stride = (1, 1)  # type: ignore[union-attr]
    for wrong in (other, build("Plain"), build("Residual", 5)):
        with pytest.raises(
            BadArgument, match="its layers are not those of the network in the file, 'mine.py:Residual'"
        ):
            bench.load(path, model=wrong)
    with pytest.raises(BadArgument, match="model='Residual': expected a torch.nn.Module"):
        bench.load(path, model="Residual")  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in other.state_dict().items()}
    bench.load(path, model=build("Residual").to(torch.bfloat16))
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_a_network_with_a_name_may_be_handed_over_too(make_model: Callable[..., nn.Module], tmp_path: Path) -> None:
    model, path = make_model("resnet20"), tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, artifact.Architecture("resnet20", 4, 3, 32)))
    images = torch.randn(2, 3, 32, 32)
    fresh = zoo.create_model("resnet20", 4, 3)
    assert torch.equal(bench.load(path, model=fresh)(images), bench.load(path)(images))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.py:Net", "there is no file nowhere.py"),
        ("{mine}:Residul", "{mine} has no 'Residul'; did you mean 'Residual'?"),
        (
            "{mine}:xxxxxxxx",
            "{mine} has no 'xxxxxxxx'; it has: Residual, Plain, grouped, Counting, published",
        ),
        ("{mine}:raises", "it cannot be built: ValueError: no network for 3 classes"),
        ("{mine}:leaves", "it cannot be built: SystemExit: 3"),
        ("{mine}:returns_text", "it returned an object of the type str, expected a torch.nn.Module"),
        ("{mine}:needs_more", "it needs the argument 'width' too; it is called with num_classes and in_chans"),
        ("{mine}:instance", "an object of the type Linear, not a function or class; expected one that returns"),
        ("{mine}:number", "an object of the type int, not a function or class"),
        ("{mine}:ten_classes", "it gives outputs [2, 10] for 2 images, expected [2, 3]: one for each class"),
        ("{mine}:Tuple", "it returns an object of the type tuple, expected logits, a tensor [N, 3]"),
        ("nopackage.nets:Net", "there is no module 'nopackage', neither installed nor in the current folder"),
        ("json.nothing:Net", "there is no module 'json.nothing'"),
        ("json:dumpz", "json has no 'dumpz'; did you mean 'dump'?"),
        ("json:dumps", "it needs the argument 'obj' too"),
        ("a b:c", "expected package.module:function or path/file.py:Class"),
        ("torchvision:resnt18", "there is no such network; did you mean torchvision:resnet18"),
        ("{mine}", "there is no such network; expected the class or function in it too, as in {mine}:Net"),
    ],
)
def test_a_mistake_is_one_line(name: str, told: str, image_folder: Path, bench_command: Say) -> None:
    name, told = name.format(mine=MINE), told.format(mine=MINE)
    words = ("--methods", "l1", "--dataset", f"folder:{image_folder}", "--weights", "scratch", "--no-tracking")
    said = bench_command("run", "--models", name, *words)
    line = said.err.splitlines()[-1]
    assert (said.code, said.out) == (2, "") and line.startswith(f"bench: --models {name}: ") and told in line, said
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("def broken(:", "it cannot be imported: SyntaxError: invalid syntax"),
        ("import sys; sys.exit('bye')", "it cannot be imported: SystemExit: bye"),
        ("import nothing_like_it", "it cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("raise RuntimeError('one\\ntwo')", "it cannot be imported: RuntimeError: one two"),
        ("\0", "it cannot be imported: "),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_in_one_line(content: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(content)
    with pytest.raises(BadArgument) as caught:
        zoo.create_model(f"{path}:Net", 3, 3)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not any(name.startswith("bench_own_net_") for name in sys.modules)


def test_what_it_prints_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.py"
    content = MINE.read_text().replace("super().__init__()", "super().__init__(); print('built')")
    path.write_text(content + "\nprint('imported')\n")
    zoo.create_model(f"{path}:Residual", 3, 3)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "imported\nbuilt\n")


def test_a_file_may_import_files_beside_it(tmp_path: Path) -> None:
    shutil.copy(MINE, tmp_path / "parts_beside.py")
    path = tmp_path / "net.py"
    path.write_text(
        "from parts_beside import Residual as Inner\ndef net(num_classes):\n    return Inner(num_classes)\n"
    )
    before = list(sys.path)
    model = zoo.create_model(f"{path}:net", 3, 3)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 3) and sys.path == before
    first = network_digest(model)
    assert network_digest(zoo.create_model(f"{path}:net", 3, 3)) == first


def test_a_module_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(MINE, tmp_path / "my_nets_here.py")
    monkeypatch.chdir(tmp_path)
    assert zoo.create_model("my_nets_here:grouped", 3, 1)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_an_edited_file_is_another_network(tmp_path: Path, image_folder: Path) -> None:
    path, dataset = tmp_path / "net.py", registry.open_dataset(f"folder:{image_folder}")

    def digest(content: str) -> str:
        path.write_text(content)
        return Subject(f"{path}:Residual", dataset).source

    content = MINE.read_text()
    first = digest(content)
    assert digest(content + "\n# a comment\n") == first
    assert digest(content.replace("F.relu(x + self", "F.gelu(x + self")) != first
    assert digest(content.replace("stride=2", "stride=1")) != first
    assert Subject("resnet20", dataset).source == ""


def test_a_class_without_a_file_is_known_by_its_code() -> None:
    def typed(expression: str) -> nn.Module:
        names: dict[str, Any] = {"nn": nn, "__name__": "__typed__"}
        exec(f"class Net(nn.Conv2d):\n    def forward(self, x):\n        return {expression}\n", names)
        net: nn.Module = names["Net"](3, 4, 3)
        return net

    assert network_digest(typed("x + 1")) == network_digest(typed("x + 1")) != network_digest(typed("x + 2"))


def test_weights_do_not_count_for_the_code() -> None:
    torch.manual_seed(1)
    assert network_digest(build("Residual")) == network_digest(zoo.create_model(f"{MINE}:Residual", 4, 3))


def test_given_weights_fit_by_name(image_folder: Path, tmp_path: Path) -> None:
    from bench.trials.baseline import load_task

    model = build("Residual", 3)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    dataset = registry.open_dataset(f"folder:{image_folder}")
    task = load_task(f"{MINE}:Residual", dataset, str(tmp_path / "mine.safetensors"), torch.device("cpu"))
    assert task.weights == "mine" and torch.equal(
        task.model.state_dict()["head.weight"], model.state_dict()["head.weight"]
    )
