"""The reloaded network is tested again on the test images, and the dense one if its weights are here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from bench.comparing.outcomes import Outcomes, read_outcomes
from bench.data.dataset import Dataset
from bench.deploying.runtimes import INT8
from bench.networks.zoo import Preprocessing
from bench.records.record import Record
from bench.records.store import CLASSES, PREDICTIONS, StoreError, reason
from bench.verifying.accuracy import (
    OF_DENSE,
    Tested,
    accuracy_of,
    check_figures,
    check_file,
    compared,
    evaluation_of,
    tested,
)
from bench.verifying.findings import Finding, Verdict, together
from bench.verifying.opening import Materials, Opened
from bench.verifying.submitted import Submitted
from bench.verifying.tables import check_classes


@dataclass(frozen=True)
class Retest:
    """What testing again showed: `images` were classified, and `changed` of them got another class."""

    findings: list[Finding] = field(default_factory=list)
    images: int = 0
    changed: int = 0


def check_data(record: Record, dataset: Dataset, preprocessing: Preprocessing | None = None) -> list[Finding]:
    """Whether the images and the recipe here are those that the record names."""
    here = {"dataset_digest": dataset.digest, "recipe": asdict(dataset.recipe)}
    if preprocessing is not None:
        here["preprocessing"] = json.loads(json.dumps(asdict(preprocessing)))
    pairs = [(name, record.config[name], value) for name, value in here.items() if name in record.config]
    return together("images and recipe", pairs, Verdict.SAME) + _passes(record, dataset)


def _passes(record: Record, dataset: Dataset) -> list[Finding]:
    """Whether the passes that were spent fit into the budget; batches for batch-norm statistics come on top of it."""
    spent = record.epochs_spent
    if spent is None or "train" not in dataset.parts:
        return []
    steps = max(1, len(dataset.split("train")) // dataset.recipe.batch_size)
    most = record.budget_epochs + (record.recalibration_batches or 0) / steps
    right = spent if spent <= most + 1 / steps else most
    return together("epochs_spent", [("epochs_spent", spent, right)], Verdict.CONSISTENT, note="within the budget")


def check_predictions(trial: Submitted, dataset: Dataset) -> tuple[list[Finding], Outcomes | None]:
    """The submitted predictions beside the record and the labels; None if they are not predictions of these images."""
    outcomes, problem = _read(trial, dataset)
    if outcomes is None:
        return [Finding(PREDICTIONS, Verdict.DIFFERS, note=problem)], None
    accuracy = accuracy_of(outcomes, dataset.classes)
    return [*check_file(trial.record, accuracy), *check_classes(trial.path(CLASSES), accuracy)], outcomes


def _read(trial: Submitted, dataset: Dataset) -> tuple[Outcomes | None, str]:
    try:
        outcomes = read_outcomes(trial.folder)
    except StoreError as error:
        return None, reason(error).removeprefix(f"{trial.folder / PREDICTIONS}: ").partition(";")[0]
    if outcomes is None:
        return None, "the file is missing"
    if not all(np.issubdtype(values.dtype, np.integer) for values in vars(outcomes).values()):
        return None, "not whole numbers"
    labels = dataset.split("test").labels.numpy()
    if not np.array_equal(outcomes.labels, labels):
        return None, "its labels are not those of the test images"
    return outcomes, ""


def retest(trial: Submitted, opened: Opened, materials: Materials) -> Retest:
    """Classify every test image with the reloaded network, and compare all predictions and figures."""
    dataset, record = opened.task.dataset, trial.record
    findings, outcomes = check_predictions(trial, dataset)
    if outcomes is None:
        return Retest(findings)
    if record.runtime == INT8:
        note = f"made by {INT8}, which rounds activations; its trial in torch can be verified"
        return Retest([*findings, Finding("predictions", Verdict.UNVERIFIED, note=note)])
    feed = opened.task.feed(dataset.split("test"), materials.options.device)
    ours = tested(opened.on(materials.options.device), feed, "verifying")
    predictions = compared(outcomes.predictions, ours)
    findings += [predictions.finding("predictions"), *_figures(opened, materials, outcomes, ours, predictions.allowed)]
    return Retest(findings, predictions.images, predictions.changed)


def _figures(opened: Opened, materials: Materials, outcomes: Outcomes, ours: Tested, allowed: float) -> list[Finding]:
    """All figures of accuracy. Without the dense network, its predictions are taken as they were submitted."""
    record, classes, dense = opened.record, opened.task.dataset.classes, materials.dense(opened)
    if isinstance(dense, Tested):
        of_dense = compared(outcomes.dense, dense)
        figures = check_figures(record, ours, dense.evaluation, classes, allowed, of_dense.allowed)
        return [of_dense.finding("dense predictions"), *figures]
    against = evaluation_of(outcomes.dense, outcomes.labels)
    figures = check_figures(record, ours, against, classes, allowed, 0.0)
    return [Finding("dense predictions", Verdict.UNVERIFIED, note=dense), *map(_as_submitted, figures)]


def _as_submitted(finding: Finding) -> Finding:
    """What follows from the dense network's predictions is only consistent with those that were submitted."""
    if finding.name not in OF_DENSE or finding.verdict is Verdict.DIFFERS:
        return finding
    return replace(finding, verdict=Verdict.CONSISTENT, note="with the dense predictions as submitted")
