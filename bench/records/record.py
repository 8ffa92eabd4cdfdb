"""What one trial leaves behind: a record."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from bench.records.plain_json import is_plain_json
from bench.records.rules import (
    LARGEST_INTEGER,
    Epochs,
    Figure,
    Fingerprint,
    Seed,
    Time,
    bounds,
    number_type,
    plain,
    shortened,
)

LARGEST_RECORD = 10_000_000
"""Characters of a record in JSON, at most; real records have a few thousand."""
LONGEST_SECONDS = 1e9
ON = " on "
"""The text between a setting and its runtime."""

Accuracy = Annotated[float, Figure(unit="fraction", better="higher", le=1)]
DenseShare = Annotated[float, Figure(unit="fraction", le=1)]
NetworkShare = Annotated[float, Figure(unit="fraction", le=1)]
Loss = Annotated[float, Figure(unit="nats", better="lower")]
AccuracyLoss = Annotated[float, Figure(unit="fraction", better="lower", ge=-1, le=1)]
CalibrationError = Annotated[float, Figure(unit="fraction", better="lower", le=1)]
Misled = Annotated[float, Figure(unit="fraction", better="lower", le=1)]
Ratio = Annotated[float, Figure(unit="×", better="higher")]
SelfRatio = Annotated[float, Figure(unit="×")]
Load = Annotated[float, Figure(unit="fraction of cores", le=1)]
FileSize = Annotated[int, Figure(unit="bytes", better="lower", le=LARGEST_INTEGER)]
DenseFileSize = Annotated[int, Figure(unit="bytes", le=LARGEST_INTEGER)]
Count = Annotated[int, Figure(unit="", better="lower", le=LARGEST_INTEGER)]
DenseCount = Annotated[int, Figure(unit="", le=LARGEST_INTEGER)]
Milliseconds = Annotated[float, Figure(unit="ms", better="lower")]
DenseMilliseconds = Annotated[float, Figure(unit="ms")]
Rate = Annotated[float, Figure(unit="images/s", better="higher")]
DenseRate = Annotated[float, Figure(unit="images/s")]
Images = Annotated[int, Figure(unit="images", le=LARGEST_INTEGER)]
Levels = Annotated[int, Figure(unit="levels of 255", le=255)]
Megabytes = Annotated[float, Figure(unit="MB", better="lower")]
Seconds = Annotated[float, Figure(unit="s", better="lower", le=LONGEST_SECONDS)]
Passes = Annotated[float, Figure(unit="passes", better="lower")]
Batches = Annotated[int, Figure(unit="batches", le=LARGEST_INTEGER)]

NormStatistics = Literal["recalibrated", "trained", "kept", "none"]
"""Where the batch-norm statistics of a network come from: the harness re-estimated them, training updated them, they
are as the method left them (without training, the dense network's), or the network has none."""


class _KnownConfig(TypedDict, total=False):
    """The parts of a record's configuration that boards, the gate and MLflow read. Others may be anything."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    command: str
    repeat: str
    suite: str
    refused: bool
    dataset_digest: str | None
    weights_digest: str | None
    sources: list[str]
    stages: list[_Stage]


class _Stage(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    method: str


def _known(config: dict[str, Any]) -> dict[str, Any]:
    try:
        _config_checker().validate_python(config)
    except ValidationError as error:
        raise ValueError(_worded(error)) from None
    return config


@dataclass(kw_only=True)
class Record:
    """One trial: task x setting x seed.

    Ratios are dense / compressed, so higher is better; accuracies are fractions in [0, 1]; `*_bytes` are file sizes;
    MACs are multiply-adds for one image, and `macs_full` includes the additions and scalings that papers ignore.
    Latencies are for one image (batch 1) unless they say otherwise. A figure that was not measured is None, never 0.
    `latency_speedup` is the dense model's time over the compressed model's, both timed in the same rounds; `_low` and
    `_high` bound its 95% interval over those rounds. `latency_self_speedup_*` bound the 99% interval of the dense model
    timed against itself. `latency_noisy` marks a timing that cannot be trusted; the notes say why. The dense network
    itself has a speedup of 1 by definition. `throughput_*` are at `throughput_batch`, the batch size that saturates the
    device. `other_load` is the share of the processor that other processes had during the timing.

    `attack_images` test images were attacked, each pixel moved by at most `attack_distance` levels of 255:
    `clean_top1` is the accuracy on the unchanged images, `robust_top1` the accuracy under attack.
    `worst_class` is the class whose top-1 dropped most against the dense network, by `worst_class_drop`, a fraction. It
    is noisy if the class has few images (`classes.csv` has their number).
    `artifact_compressed_bytes` is the size of the artifact after zstandard. `compressed_ratio` is the size of the dense
    file, which is not compressed, over this size.

    The annotation of a figure states its unit, its bounds and which direction is better (see `FIGURES`). A record is
    checked when it is written and when it is read, not while a trial fills it in.
    """

    __pydantic_config__: ClassVar = ConfigDict(allow_inf_nan=False)

    fingerprint: Fingerprint
    status: Literal["ok", "failed"]
    error: str | None = None
    method: str
    """The method's name; for a pipeline, the names joined by `+`."""
    setting: str
    """As on the command line: `tic(k=64, transforms=4)`; for a runtime other than torch, ` on RUNTIME` follows."""
    runtime: str | None = None
    """What executed the network while it was timed; None, in records of earlier versions, means torch. Only the times,
    the memory and `runtime_agreement` depend on it; all other figures were measured in torch."""
    model: str
    dataset: str
    weights: str
    seed: Seed
    budget_epochs: Epochs
    epochs_spent: Passes | None = None
    """Includes the passes that re-estimated batch-norm statistics; they are granted even if no budget is left."""
    recalibrate: bool | None = None
    """Whether the harness re-estimates statistics that training has not settled; False with `--no-recalibrate`."""
    norm_statistics: NormStatistics | None = None
    recalibration_batches: Batches | None = None
    """Training batches from which the harness re-estimated the statistics."""
    device: str

    top1: Accuracy | None = None
    top5: Accuracy | None = None
    loss: Loss | None = None
    top1_dense: DenseShare | None = None
    top1_drop: AccuracyLoss | None = None
    agreement: Accuracy | None = None
    runtime_agreement: Accuracy | None = None
    """Share of test images for which the runtime predicts the same class as torch, with the same network."""
    worst_class: str | None = None
    worst_class_drop: AccuracyLoss | None = None
    calibration_error: CalibrationError | None = None

    compression_ratio: Ratio | None = None
    compressed_ratio: Ratio | None = None
    formula_ratio: Ratio | None = None
    kernel_ratio: Ratio | None = None
    artifact_bytes: FileSize | None = None
    artifact_compressed_bytes: FileSize | None = None
    dense_bytes: DenseFileSize | None = None
    params: Count | None = None
    params_dense: DenseCount | None = None
    macs: Count | None = None
    macs_dense: DenseCount | None = None
    macs_ratio: Ratio | None = None
    macs_full: Count | None = None
    macs_full_ratio: Ratio | None = None
    reachable_share: NetworkShare | None = None
    """Share of the dense network's parameters that the setting compressed or could have compressed: weights of
    convolutions and linear layers. A layer that it skips, or whose rate is 0, counts. Layers of a kind that it never
    compresses do not count, nor do biases and normalisations."""

    latency_ms_p50: Milliseconds | None = None
    latency_ms_p90: Milliseconds | None = None
    latency_ms_p99: Milliseconds | None = None
    latency_dense_ms_p50: DenseMilliseconds | None = None
    latency_speedup: Ratio | None = None
    latency_speedup_low: Ratio | None = None
    latency_speedup_high: Ratio | None = None
    latency_self_speedup_low: SelfRatio | None = None
    latency_self_speedup_high: SelfRatio | None = None
    latency_noisy: bool | None = None
    throughput_ips: Rate | None = None
    throughput_dense_ips: DenseRate | None = None
    throughput_speedup: Ratio | None = None
    throughput_speedup_low: Ratio | None = None
    throughput_speedup_high: Ratio | None = None
    throughput_self_speedup_low: SelfRatio | None = None
    throughput_self_speedup_high: SelfRatio | None = None
    throughput_noisy: bool | None = None
    throughput_batch: Images | None = None
    other_load: Load | None = None
    peak_memory_mb: Megabytes | None = None

    compress_seconds: Seconds | None = None
    fit_seconds: Seconds | None = None
    attack_images: Images | None = None
    attack_distance: Levels | None = None
    clean_top1: Accuracy | None = None
    robust_top1: Accuracy | None = None
    attack_success_rate: Misled | None = None
    prediction_change_rate: Misled | None = None

    started_at: Time
    """UTC, ISO 8601."""
    duration_seconds: Seconds | None = None
    versions: dict[str, str] = field(default_factory=dict)

    config: Annotated[dict[str, Any], AfterValidator(_known)] = field(default_factory=dict)
    """What is needed to run the trial again: the command, every option, the recipe, digests of data and weights."""
    notes: list[str] = field(default_factory=list)
    """Warnings, such as a method without effect. `layers.csv` says why a layer stayed dense."""

    def to_json(self) -> str:
        """The record as JSON that `from_json` reads; ValueError for a record that it would refuse.

        Errors and notes are cut to `LONGEST_TEXT` characters, and lone surrogates in any text become escapes.
        """
        content = {item.name: _part(item.name, getattr(self, item.name)) for item in fields(self)}
        content["error"] = None if content["error"] is None else shortened(str(content["error"]))
        content["notes"] = [shortened(str(note)) for note in content["notes"]]
        text = json.dumps(vars(Record.from_content(content)), indent=2, allow_nan=False) + "\n"
        return _bounded(text)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record of this or another version: unknown fields are left out, missing ones are None.

        ValueError, in one line, for text that is not JSON, too long or nested too deeply, and for a field of another
        type or with a value that cannot have been measured.
        """
        try:
            return cls._of(json.loads(_bounded(text)), is_plain_json(text))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    @classmethod
    def from_content(cls, content: Any) -> Record:
        """As `from_json`, but from JSON that is already parsed; ValueError in the same cases."""
        return cls._of(content, False)

    @classmethod
    def _of(cls, content: Any, is_plain: bool) -> Record:
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, expected an object")
        known = {name: content[name] for name in RULES if name in content}
        try:
            return _checker().validate_python(known if is_plain else {name: _part(name, known[name]) for name in known})
        except ValidationError as error:
            raise ValueError(_worded(error)) from None


def _bounded(text: str) -> str:
    if len(text) > LARGEST_RECORD:
        raise ValueError(f"more than {LARGEST_RECORD // 1_000_000} MB")
    return text


def _part(name: str, value: Any) -> Any:
    try:
        return plain(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _worded(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))[:200]
    limits = bounds(RULES.get(name))
    if first["type"] in ("greater_than_equal", "less_than_equal") and limits:
        return f"{name}: {first['input']:g}, expected {limits}"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


_HINTS = get_type_hints(Record, include_extras=True)
RULES = {item.name: _HINTS[item.name] for item in fields(Record)}
"""The annotation of every field."""
FIGURES = {name: figure for name, rule in RULES.items() if isinstance(figure := bounds(rule), Figure)}
"""The measured numbers of a record, in its order: units, bounds, and which direction is better."""
NUMBERS = {name: kind for name, rule in RULES.items() if (kind := number_type(rule))}
"""Every field that holds a number, and its type: int or float."""


@cache
def _checker() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


@cache
def _config_checker() -> TypeAdapter[_KnownConfig]:
    return TypeAdapter(_KnownConfig)
