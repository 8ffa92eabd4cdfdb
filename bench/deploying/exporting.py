"""Exports an artifact as a file that runs without this package. It is compared with the artifact before it is kept."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.deploying.checking import Comparison, compare
from bench.deploying.packages import ONNX, require
from bench.deploying.quiet import quietly
from bench.encodings.base import encoded_layers
from bench.encodings.manifest import Architecture
from bench.networks.layers import fold
from bench.networks.zoo import Preprocessing
from bench.system.errors import BadArgument, BenchError
from bench.system.files import check_place

KINDS = ("onnx", "pt2", "safetensors")
NEEDED = {"onnx": (*ONNX, "onnxruntime")}


@dataclass(frozen=True)
class Export:
    """A file that was written, and what is known about it.

    `decoded_bytes` is the size of the same network in the same format with decoded weights. `reasons` say why the file
    is not as small as the artifact; they are empty if it is.
    """

    path: Path
    file_bytes: int
    artifact_bytes: int
    decoded_bytes: int
    comparison: Comparison
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export(
    network: Any,
    kind: str,
    out: Path,
    images: Sequence[Tensor],
    artifact_bytes: int,
    calibration: Sequence[Tensor] = (),
) -> Export:
    """Write a network from `bench.load(path, folded=False)` to `out` as one of `KINDS`.

    `images` are batches of real images, prepared for the network, on which the file must give the network's outputs.
    `calibration` holds more of them: with it, the activations of an ONNX file have 8 bits. The outputs then differ, and
    the comparison counts the images whose predicted class is the same. Raises BadArgument if a package is missing or
    `out` cannot be written, and BenchError if the network cannot be exported or the outputs differ; then no file is
    written.
    """
    check_kind(kind)
    if calibration and kind != "onnx":
        raise BadArgument("int8", kind, "8-bit activations go with onnx")
    check_place(out, "out")
    folded = fold(network).cpu().eval()
    example = images[0][:1].repeat(2, 1, 1, 1)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=f".{kind}")
    os.close(handle)
    try:
        written = _written(network, kind, folded, example, Path(temporary), calibration)
        comparison = _compared(network, folded, example, images, kind, Path(temporary), exact=not calibration)
        os.chmod(temporary, 0o644)
        size = os.path.getsize(temporary)
        os.replace(temporary, out)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    reasons = written.reasons if size > artifact_bytes else []
    notes = _loading_notes(network, kind, comparison)
    return Export(out, size, artifact_bytes, written.decoded_bytes or size, comparison, reasons, notes)


def check_kind(kind: str) -> None:
    """BadArgument for an unknown format, or one whose packages are not installed."""
    if kind not in KINDS:
        raise BadArgument("to", kind, f"expected {', '.join(KINDS)}")
    require(NEEDED.get(kind, ()), "to", kind)


@dataclass(frozen=True)
class Written:
    decoded_bytes: int | None
    reasons: list[str]


def _written(
    network: Any, kind: str, folded: nn.Module, example: Tensor, path: Path, calibration: Sequence[Tensor]
) -> Written:
    """Write the file. BenchError for whatever an exporter raises."""
    try:
        written = WRITERS[kind](network, folded, example, path)
        if not calibration:
            return written
        from bench.deploying.int8 import with_int8_activations

        path.write_bytes(with_int8_activations(path.read_bytes(), calibration))
        return replace(written, reasons=["8-bit operators need steps and offsets of activations", *written.reasons])
    except (BenchError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(f"the network cannot be exported as {kind}: {type(error).__name__}: {reason}") from error


def _write_onnx(network: Any, folded: nn.Module, example: Tensor, path: Path) -> Written:
    from bench.deploying import onnx_file

    made = onnx_file.export(network, example, facts_of(network))
    path.write_bytes(made.content)
    reasons = [
        f"the graph takes {made.graph_bytes:,} bytes",
        "numbers take 1, 2, 4, 8, 16 or 32 bits; in an artifact, any number of bits",
    ]
    for reason in dict.fromkeys(made.decoded.values()):
        layers = [name for name, told in made.decoded.items() if told == reason]
        reasons.append(f"{len(layers)} weights are stored decoded ({layers[0]}, ...: {reason})")
    return Written(made.decoded_bytes, reasons)


def _write_pt2(network: Any, folded: nn.Module, example: Tensor, path: Path) -> Written:
    program = _program(folded, example)
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(facts_of(network))})
    return Written(None, [*_decoded(network), "a pt2 file holds the program, too"])


def _write_safetensors(network: Any, folded: nn.Module, example: Tensor, path: Path) -> Written:
    state = {name: tensor.detach().clone().contiguous() for name, tensor in folded.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"} | facts_of(network))
    return Written(None, _decoded(network))


WRITERS: dict[str, Callable[[Any, nn.Module, Tensor, Path], Written]] = {
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "safetensors": _write_safetensors,
}


def _decoded(network: nn.Module) -> list[str]:
    count = len(list(encoded_layers(network)))
    return [f"its {count} encoded weights are decoded to 32-bit floats"] if count else ["it holds names as text"]


def _program(folded: nn.Module, example: Tensor) -> Any:
    with quietly():
        return torch.export.export(folded, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def facts_of(network: Any) -> dict[str, str]:
    """The metadata of a file, each fact as JSON: class names and preprocessing."""
    known: Preprocessing = network.preprocessing
    names = network.class_names
    return {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(known).items()} | (
        {} if names is None else {"class_names": json.dumps(names, ensure_ascii=False)}
    )


def _compared(
    network: Any,
    folded: nn.Module,
    example: Tensor,
    images: Sequence[Tensor],
    kind: str,
    path: Path,
    *,
    exact: bool,
) -> Comparison:
    job: dict[str, Any] = {"kind": kind, "file": str(path.absolute())}
    if kind != "safetensors":
        return compare(folded, images, job, exact=exact)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.pt2"
        torch.export.save(_program(_blank(folded), example), program)
        return compare(folded, images, job | _timm_options(network.architecture) | {"program": str(program)})


def _blank(folded: nn.Module) -> nn.Module:
    """The network without its weights, so that they can only come from a file."""
    twin = copy.deepcopy(folded)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.zero_()
    return twin


def _timm_options(architecture: Architecture) -> dict[str, Any]:
    options = {"num_classes": architecture.classes, "in_chans": architecture.channels}
    return {"model": architecture.model, "options": options}


def _loading_notes(network: Any, kind: str, comparison: Comparison) -> list[str]:
    architecture: Architecture = network.architecture
    if kind == "onnx":
        return ["run it with onnxruntime 1.20 or newer, or OpenVINO"]
    if kind == "pt2":
        return ["load it with torch.export.load(FILE).module()"]
    if comparison.loaded_by == "timm":
        return [
            f"load it with timm.create_model('{architecture.model}', num_classes={architecture.classes}, "
            f"in_chans={architecture.channels}).load_state_dict(safetensors.torch.load_file(FILE))"
        ]
    return [f"timm's own '{architecture.model}' does not fit it; load it into a network of the same layers and widths"]
