"""Verifying what strangers hand in: no code that a record or an artifact names is run, and nothing it holds crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.encodings import artifact
from bench.encodings.manifest import Architecture
from bench.networks import zoo
from bench.records.store import MODEL, RECORD, Store
from bench.verifying.findings import Outcome
from bench.verifying.opening import Materials, Options

from .small_runs import finished as finished
from .small_runs import plan as plan
from .small_runs import store as store
from .submissions import edit, edit_config, home, verified, wrong

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]

CODE = "open('run', 'w')\nfrom tests.networks_of_mine import Residual as Net\n"


@pytest.fixture(scope="module")
def materials(image_folder: Path) -> Materials:
    return Materials(Options(dataset=f"folder:{image_folder}"))


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of code in the current folder; `run` appears if it is imported."""
    (tmp_path / "evil.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["evil.py:Net", "evil:Net", "os:system"])
def test_code_that_a_record_names_is_not_run(name: str, store: Store, materials: Materials, evil: Path) -> None:
    folder = edit_config(edit(home(store, "tic"), model=name), honest=True, model=name)
    found = verified(folder, materials)
    assert "artifact's model" in wrong(found) and not (evil / "run").exists()


@pytest.mark.parametrize("name", ["evil.py:Net", "evil:Net", "hf_hub:timm/resnet18.a1_in1k"])
def test_code_that_an_artifact_names_is_not_run(name: str, store: Store, materials: Materials, evil: Path) -> None:
    folder = edit_config(edit(home(store, "tic"), model=name), honest=True, model=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Architecture, "build", lambda self: zoo.create_model("resnet20", 3, 3))
        content = artifact.dump(zoo.create_model("resnet20", 3, 3), Architecture(name, 3, 3, 32))
    (folder / MODEL).write_bytes(content)
    found = verified(folder, materials)
    assert found.outcome is Outcome.LACKING and name in found.lacking and not (evil / "run").exists()


@pytest.mark.parametrize("dataset", ["folder:/etc", "folder", "folder:.", "nothing", "../x"])
def test_no_folder_is_opened_because_a_record_names_it(dataset: str, store: Store) -> None:
    found = verified(edit(home(store, "tic"), dataset=dataset), Materials())
    assert found.lacking.startswith(f"the images of '{dataset}' are not here")


@pytest.mark.parametrize("how", [Architecture("resnet20", 5, 3, 32), Architecture("resnet32", 3, 3, 32)])
def test_an_artifact_of_another_network_is_found_before_it_is_tested(
    how: Architecture, store: Store, materials: Materials
) -> None:
    (home(store, "tic") / MODEL).write_bytes(artifact.dump(how.build(), how))
    found = verified(home(store, "tic"), materials)
    assert wrong(found).keys() == {"artifact's classes" if how.classes == 5 else "artifact's model"}


def test_a_network_that_does_not_run_is_found(
    store: Store, materials: Materials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes\ndo not fit")

    monkeypatch.setattr("bench.networks.architectures.CifarResNet.forward", broken)
    found = wrong(verified(home(store, "tic"), materials))
    assert found[MODEL] == ("", "the network in it does not run (shapes do not fit)")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"stages": []},
        {"stages": [{"method": "tic"}]},
        {"stages": [{"method": "unheard of"}]},
        {"stages": [{"method": "tic", "k": [[[]]]}], "sources": ["x"] * 100},
        {"protocol": "2", "model": None, "seed": "0", "epochs": {}, "runtime": 3},
        {"recipe": {"epochs": "many"}, "preprocessing": [1, 2]},
    ],
)
def test_odd_configurations_are_findings(config: dict[str, Any], store: Store, materials: Materials) -> None:
    folder = home(store, "tic")
    content = json.loads((folder / RECORD).read_text())
    content["config"] = config if config in ({}, {"stages": []}) else content["config"] | config
    (folder / RECORD).write_text(json.dumps(content))
    found = verified(folder, materials)
    assert "fingerprint" in wrong(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("timings.csv", "a,b,c,d,e,f\n" + "1,1,0,0,0,0\n" * 2),
        ("timings.csv", "a,b,c,d,e,f\n" + "nan,1,inf,1,1,1\n" * 2),
        ("timings.csv", "a,b,c,d,e,f\n" + "1,1,1,1,1,1\n1e308,1,1,1,1,1\n"),
        ("timings.csv", "a,b,c,d,e,f\n1,1,1,1,1,1\n" + "1,2,1,1,1,1\n" * 3000 + "2,1,1,1,1,1\n"),
        ("timings.csv", '"' + "x" * 200_000),
        ("classes.csv", '"' + "x" * 200_000),
        ("layers.csv", "name\n\n,,,,\n"),
        ("layers.csv", ""),
    ],
)
def test_odd_tables_are_findings(name: str, content: str, store: Store, materials: Materials) -> None:
    (home(store, "tic") / name).write_text(content)
    assert name in wrong(verified(home(store, "tic"), materials))


def test_text_of_a_stranger_does_not_reach_the_terminal(store: Store, image_folder: Path, bench_command: Say) -> None:
    edit(home(store, "tic"), setting="\x1b[2J[red]tic\n# x", worst_class="\x1b]0;x\x07|<b>")
    for form in ("table", "md", "json"):
        said = bench_command("verify", home(store, "tic"), "--dataset", f"folder:{image_folder}", "--format", form)
        assert said.code == 1 and not {"\x1b", "\x07"} & set(said.out + said.err)
        assert form != "md" or "<b>" not in said.out


def test_a_network_of_ones_own_is_verified_with_its_code(
    image_folder: Path, tmp_path: Path, bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(CODE.partition("\n")[2])
    words = f"--models nets.py:Net --methods l1 --weights scratch --epochs 0 --dataset folder:{image_folder}".split()
    assert bench_command("run", *words, "--no-tracking", "--store", "runs").code == 0
    images = ("--dataset", f"folder:{image_folder}")
    said = bench_command("verify", "runs", *images)
    assert said.code == 2 and "code of a submission is never run" in said.out
    said = bench_command("verify", "runs", *images, "--model", "nets.py:Net")
    assert said.code == 0 and "2 trials: 2 verify." in said.out
    said = bench_command("verify", "runs", *images, "--model", "resnet20")
    assert said.code == 2 and "its layers are not those of the network in the file" in said.out
