"""What executes a network: torch, torch.compile, onnxruntime or OpenVINO, with the same number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from bench.deploying.packages import ONNX, require
from bench.networks.layers import fold, on_device
from bench.system.errors import BadArgument, BenchError

DEFAULT = "torch"
Network = Callable[[Tensor], Tensor]
"""Outputs [N, classes] on the CPU or the images' device, of images [N, C, H, W]."""

NEEDED: dict[str, tuple[str, ...]] = {
    "torch": (),
    "compile": (),
    "onnxruntime": (*ONNX, "onnxruntime"),
    "onnxruntime-int8": (*ONNX, "onnxruntime"),
    "openvino": (*ONNX, "openvino"),
}
"""The runtimes, and the packages that each needs."""
INT8 = "onnxruntime-int8"
"""onnxruntime with activations in 8 bits. Its outputs are not torch's, so its accuracy is measured on its own."""


def check_runtimes(names: list[str], device: torch.device) -> None:
    """BadArgument for a runtime that is unknown, not installed, or does not run on the device."""
    for name in names:
        if name not in NEEDED:
            raise BadArgument("runtime", name, f"expected {', '.join(NEEDED)}")
        require(NEEDED[name], "runtime", name)
        if NEEDED[name] and device.type != "cpu":
            raise BadArgument("runtime", name, f"runs on the CPU here, not on {device}; choose the device cpu")


@dataclass(frozen=True)
class Prepared:
    """A network as a runtime executes it, and what the runtime loaded: a file or, for torch, a plain network."""

    run: Network
    loaded: bytes | nn.Module


def prepare(network: nn.Module, runtime: str, images: Tensor, calibration: Sequence[Tensor] = ()) -> Prepared:
    """A network, with its encodings if it has any, as that runtime executes it. `images` [N, C, H, W] are an example.

    All of them compute with decoded weights, not with the executable form of `bench.execution`. With `INT8`,
    activations are rounded to 8 bits, in the ranges that they have on the batches of `calibration`; without any, they
    stay 32-bit floats. BenchError if the runtime cannot run the network.
    """
    try:
        if runtime in LOADERS:
            content = _onnx(network, images)
            if runtime == INT8 and calibration:
                from bench.deploying.int8 import with_int8_activations

                content = with_int8_activations(content, calibration)
            return Prepared(LOADERS[runtime](content, torch.get_num_threads()), content)
        plain = on_device(fold(network), images.device).eval()
        return Prepared(compiled(plain) if runtime == "compile" else plain, plain)
    except BenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(f"{runtime} cannot run the network: {type(error).__name__}: {reason}") from error


def compiled(network: nn.Module) -> Network:
    """The network compiled by torch.compile, again for each batch size."""
    made: Any = torch.compile(network, dynamic=False)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = made(images)
        return outputs

    return run


def forget_compiled() -> None:
    """Clear torch's count of compilations. After a few, it would run further networks of the same class uncompiled."""
    torch.compiler.reset()


def runtime_version(runtime: str) -> str:
    return version(NEEDED[runtime][-1] if NEEDED[runtime] else "torch")


def import_packages(runtime: str) -> None:
    for name in NEEDED[runtime]:
        import_module(name)


def _onnx(network: nn.Module, images: Tensor) -> bytes:
    from bench.deploying import onnx_file

    return onnx_file.export(network, images[:1].repeat(2, 1, 1, 1).contiguous(), {}).content


def onnxruntime_session(content: bytes, threads: int, *, int8: bool = False) -> Network:
    """Threads sleep between passes: two sessions would disturb each other. Without `int8`, weights of few bits are
    decoded once, when the file is loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "0" if int8 else "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])


def openvino_model(content: bytes, threads: int) -> Network:
    """In 32-bit floats, whatever the processor likes best: where it has instructions for 8-bit products, OpenVINO would
    round what linear layers with 8-bit weights read."""
    import openvino

    core = openvino.Core()
    precision = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    options = precision | {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(content), "CPU", options).create_infer_request()

    def run(images: Tensor) -> Tensor:
        request.infer({0: images.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run


LOADERS: dict[str, Callable[[bytes, int], Network]] = {
    "onnxruntime": onnxruntime_session,
    INT8: partial(onnxruntime_session, int8=True),
    "openvino": openvino_model,
}
"""The runtimes that load an ONNX file."""
