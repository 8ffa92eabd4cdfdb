"""`bench verify`: an honest record verifies, and each planted lie is found in the line that it is about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.plugins.registry import open_dataset
from bench.records.record import FIGURES
from bench.records.store import MODEL, PREDICTIONS, RECORD, Store
from bench.system.errors import BadArgument
from bench.trials.baseline import load_task
from bench.verifying.findings import Outcome, Verdict
from bench.verifying.opening import Materials, Options

from .small_runs import finished as finished
from .small_runs import plan as plan
from .small_runs import store as store
from .submissions import edit, edit_config, edit_predictions, home, truncate, verified, wrong

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


@pytest.fixture(scope="module")
def materials(image_folder: Path) -> Materials:
    return Materials(Options(dataset=f"folder:{image_folder}"))


def test_honest_records_verify(store: Store, materials: Materials) -> None:
    for record in store.records():
        found = verified(store.folder(record.fingerprint), materials)
        assert found.outcome is Outcome.VERIFIED, wrong(found)
        assert (found.images, found.changed) == (30, 0)
        verdicts = {finding.name: finding.verdict for finding in found.findings}
        for name in ("predictions", "dense predictions", "top1", "macs", "artifact_bytes", "fingerprint", "layers.csv"):
            assert verdicts[name] is Verdict.SAME, name
        about = [name for finding in found.findings for name in finding.fields if name in FIGURES]
        assert {name for name in FIGURES if getattr(record, name) is not None} == set(about)
        (unknown,) = (finding for finding in found.findings if finding.name == "not verified")
        assert {"fit_seconds", "compress_seconds"} <= set(unknown.fields) and "top1" not in unknown.fields


LIES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "top1": ({"top1": 0.99}, {"top1", "top1_drop"}),
    "size": ({"artifact_bytes": 1000, "compression_ratio": 1000.0}, {"artifact_bytes", "compression_ratio"}),
    "after zstandard": ({"artifact_compressed_bytes": 1000}, {"artifact_compressed_bytes", "compressed_ratio"}),
    "macs": ({"macs": 1_000_000, "macs_ratio": 40.0}, {"macs", "macs_ratio"}),
    "ratio": ({"formula_ratio": 9.0}, {"formula_ratio"}),
    "loss": ({"loss": 0.5}, {"loss"}),
    "calibration": ({"calibration_error": 0.0}, {"calibration_error"}),
    "worst class": ({"worst_class_drop": -1.0}, {"worst_class_drop"}),
    "latency": ({"latency_speedup": 3.0, "latency_speedup_high": 4.0}, {"latency_speedup", "latency_speedup_high"}),
    "interval": ({"throughput_speedup": 3.0}, {"throughput_speedup"}),
    "setting": ({"setting": "tic(k=2)"}, {"setting"}),
    "method": ({"method": "kse"}, {"method"}),
    "no such option": ({"setting": "tic(colour=red)"}, {"setting"}),
    "seed": ({"seed": 3}, {"seed"}),
    "budget": ({"budget_epochs": 0.5}, {"budget_epochs"}),
    "more training": ({"epochs_spent": 3.0}, {"epochs_spent"}),
    "reachable": ({"reachable_share": 0.1}, {"reachable_share"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_better_figure_is_found(lie: str, store: Store, materials: Materials) -> None:
    changes, names = LIES[lie]
    found = verified(edit(home(store, "tic"), **changes), materials)
    assert found.outcome is Outcome.DIFFERS and names <= wrong(found).keys(), wrong(found)


def test_the_claim_stands_beside_what_was_recomputed(store: Store, materials: Materials) -> None:
    (honest,) = (record for record in store.records() if record.method == "tic")
    found = verified(edit(home(store, "tic"), top1=0.99), materials)
    assert wrong(found)["top1"] == ("0.99", f"{honest.top1:.9g}")


def test_another_trials_artifact_is_found(store: Store, materials: Materials) -> None:
    shutil.copy(home(store, "l1") / MODEL, home(store, "tic") / MODEL)
    found = wrong(verified(home(store, "tic"), materials))
    assert {"artifact_bytes", "compression_ratio", "params", "macs", "predictions"} <= found.keys()


def test_edited_predictions_are_found_even_if_the_record_follows_them(store: Store, materials: Materials) -> None:
    folder = edit_predictions(home(store, "tic"), lambda tensors: tensors["predictions"].copy_(tensors["labels"]))
    assert {"top1", "predictions"} <= wrong(verified(folder, materials)).keys()
    edit(folder, top1=1.0)
    found = wrong(verified(folder, materials))
    assert {"top1", "predictions", "top1_drop"} <= found.keys()
    assert found["predictions"][0] == "30 images" and found["predictions"][1].endswith(" differ")


def test_edited_predictions_of_the_dense_network_are_found(store: Store, materials: Materials) -> None:
    folder = edit_predictions(home(store, "tic"), lambda tensors: tensors["dense"].fill_(0))
    assert {"dense predictions", "agreement"} <= wrong(verified(folder, materials)).keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors["predictions"].fill_(7),
        lambda tensors: tensors["predictions"].fill_(-1),
        lambda tensors: tensors["labels"].fill_(0),
        lambda tensors: tensors.update(predictions=tensors["predictions"].float()),
        lambda tensors: tensors.update(predictions=tensors["predictions"][:5].clone()),
        lambda tensors: tensors.pop("labels"),
    ],
)
def test_predictions_of_other_images_or_classes_are_found(change: Any, store: Store, materials: Materials) -> None:
    found = wrong(verified(edit_predictions(home(store, "tic"), change), materials))
    assert found.keys() & {"predictions", PREDICTIONS}


def test_a_renamed_setting_is_found_whatever_follows_it(store: Store, materials: Materials) -> None:
    """Without its options, by them; with its options, by the fingerprint; with that, by no file: see the guide."""
    folder = edit(home(store, "tic"), setting="tic(k=2)")
    assert wrong(verified(folder, materials))["setting"] == ("tic(k=2)", "the configuration says k=4")
    stages = json.loads((folder / RECORD).read_text())["config"]["stages"]
    edit_config(folder, stages=[stages[0] | {"k": 2}])
    assert wrong(verified(folder, materials)).keys() == {"fingerprint"}
    folder = edit_config(folder, honest=True)
    assert verified(folder, materials).outcome is Outcome.VERIFIED


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_artifact_is_found(share: float, store: Store, materials: Materials) -> None:
    found = wrong(verified(truncate(home(store, "tic"), share), materials))
    assert found.keys() == {MODEL} and "not a whole compressed network" in found[MODEL][1]


def test_edited_weights_are_found(store: Store, materials: Materials) -> None:
    path = home(store, "tic") / MODEL
    content = bytearray(path.read_bytes())
    content[-4000:] = bytes(4000)
    path.write_bytes(content)
    assert {"loss"} <= wrong(verified(path.parent, materials)).keys()


def test_edited_tables_are_found(store: Store, materials: Materials) -> None:
    folder = home(store, "l1")
    for name, old, new in (("layers.csv", ",dense,", ",mask,"), ("classes.csv", ",10,", ",11,")):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    (folder / "timings.csv").write_text("batch,round\n1,1\n")
    found = wrong(verified(folder, materials))
    assert {"timings.csv", "layers.csv, line 2, encoding", "classes.csv, line 2, images"} <= found.keys()


def test_other_images_are_told_apart(store: Store, materials: Materials) -> None:
    folder = edit_config(home(store, "tic"), dataset_digest="0" * 16)
    assert {"dataset_digest", "fingerprint"} <= wrong(verified(folder, materials)).keys()


def test_a_record_without_its_artifact_is_told_and_its_figures_must_fit_its_predictions(
    store: Store, materials: Materials
) -> None:
    folder = home(store, "tic")
    (folder / MODEL).unlink()
    found = verified(folder, materials)
    assert found.outcome is Outcome.NO_ARTIFACT and not found.images
    verdicts = {finding.name: finding.verdict for finding in found.findings}
    assert verdicts["accuracy in the file"] is Verdict.CONSISTENT and "top1" not in verdicts
    assert {"top1"} <= wrong(verified(edit(folder, top1=0.99), materials)).keys()


def test_without_the_dense_network_its_figures_are_only_consistent(store: Store, materials: Materials) -> None:
    folder = edit_config(home(store, "tic"), honest=True, weights_digest="0" * 16)
    found = verified(folder, materials)
    verdicts = {finding.name: finding for finding in found.findings}
    assert found.outcome is Outcome.VERIFIED
    assert verdicts["dense predictions"].verdict is Verdict.UNVERIFIED
    assert "has other weights" in verdicts["dense predictions"].note
    assert verdicts["agreement"].verdict is Verdict.CONSISTENT and verdicts["top1"].verdict is Verdict.SAME


def test_weights_of_a_file_are_those_of_the_record(store: Store, image_folder: Path, tmp_path: Path) -> None:
    dataset = f"folder:{image_folder}"
    model = load_task("resnet20", open_dataset(dataset), "scratch", torch.device("cpu")).model
    files = {"right": model.state_dict(), "wrong": {k: v * 2 for k, v in model.state_dict().items()}}
    for name, tensors in files.items():
        save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
    folder = edit(home(store, "tic"), weights="right")
    for names, verdict in (
        (["wrong", "right"], Verdict.SAME),
        (["wrong"], Verdict.UNVERIFIED),
        ([], Verdict.UNVERIFIED),
    ):
        weights = tuple(str(tmp_path / f"{name}.safetensors") for name in names)
        found = verified(folder, Materials(Options(dataset=dataset, weights=weights)))
        assert {each.name: each.verdict for each in found.findings}["dense predictions"] is verdict
    with pytest.raises(BadArgument, match="no such file"):
        Options(weights=("no.safetensors",))


def test_images_that_are_not_here_are_asked_for(store: Store) -> None:
    found = verified(home(store, "tic"), Materials())
    assert found.outcome is Outcome.LACKING and "name their folder or archive as dataset" in found.lacking


def test_the_command(store: Store, image_folder: Path, bench_command: Say, tmp_path: Path) -> None:
    words = ("--dataset", f"folder:{image_folder}", "--device", "cpu")
    said = bench_command("verify", store.root, *words)
    assert said.code == 0 and "3 trials: 3 verify." in said.out
    assert "90 images were classified again; 0 got another class than was submitted." in said.out
    edit(home(store, "tic"), top1=0.99)
    said = bench_command("verify", store.root, *words)
    assert said.code == 1 and "3 trials: 2 verify, 1 differs." in said.out and "top1 0.99 claimed" in said.out
    said = bench_command("verify", home(store, "tic"), *words, "--format", "json")
    (trial,) = json.loads(said.out)["trials"]
    assert said.code == 1 and trial["outcome"] == "differs"
    out = tmp_path / "report.md"
    assert bench_command("verify", store.root, *words, "--format", "md", "--out", out).code == 1
    assert out.read_text().startswith("### 3 trials: 2 verify, 1 differs.") and "| ✗ | top1 | 0.99 |" in out.read_text()
    assert bench_command("verify", home(store, "l1")).code == 2


def test_mistakes_are_one_line(store: Store, bench_command: Say, tmp_path: Path) -> None:
    assert bench_command("verify", tmp_path / "no").mistake.endswith("there is no such file or folder")
    (tmp_path / "empty").mkdir()
    assert "no records" in bench_command("verify", tmp_path / "empty").mistake
    (home(store, "tic") / RECORD).write_text("{")
    assert "not a record" in bench_command("verify", store.root).mistake


def test_only_near_ties_may_turn_round() -> None:
    from bench.measuring.evaluation import Evaluation
    from bench.verifying.accuracy import MARGIN, Tested, compared

    logits = torch.tensor([[1.0, 1.0 - MARGIN / 2, 0], [1.0, 0.9, 0], [0, 1.0, 0]])
    unknown = torch.zeros(3)
    ours = Tested(Evaluation(logits.argmax(1), torch.zeros(3, dtype=torch.long), unknown, unknown, 0), logits)
    near = compared(torch.tensor([1, 0, 1], dtype=torch.int32).numpy(), ours)
    assert (near.changed, near.ties, near.finding("it").verdict) == (1, 1, Verdict.CLOSE)
    far = compared(torch.tensor([1, 1, 1], dtype=torch.int32).numpy(), ours)
    assert (far.changed, far.ties, far.finding("it").verdict) == (2, 1, Verdict.DIFFERS)
