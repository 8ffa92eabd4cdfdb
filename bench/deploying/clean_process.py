"""Runs an exported file on images in a process that cannot import this package: `python -I clean_process.py JOB`.

JOB is a JSON file with the kind and the path of the file, the paths of the images and of the outputs (.npy), and what
timm needs to build the network. This module deliberately imports nothing of this package.
"""

import json
import sys
from typing import Any

OURS = ("bench", "bench_methods", "bench_datasets")
AT_ONCE = (1, 3, 32)
"""Batch sizes, used one after another to show that the file accepts any size."""


class Refusal:
    """An import hook that makes this package look as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"No module named {name!r}: this process has to do without it", name=name)


def run_onnx(job: dict[str, Any]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(job["file"], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def run_pt2(job: dict[str, Any]) -> Any:
    import torch

    return _run_module(torch.export.load(job["file"]).module())


def run_safetensors(job: dict[str, Any]) -> Any:
    """Load into timm's network if the weights fit, else into an exported program of the network without weights."""
    import torch
    from safetensors.torch import load_file

    state = load_file(job["file"])
    network = _timm_network(job, state)
    if network is None:
        network = torch.export.load(job["program"]).module()
        network.load_state_dict(state)
    else:
        job["loaded_by"] = "timm"
    return _run_module(network)


def _timm_network(job: dict[str, Any], state: dict[str, Any]) -> Any:
    try:
        import timm

        network = timm.create_model(job["model"], **job["options"]).eval()
        network.load_state_dict(state)
    except Exception:
        return None
    return network


def _run_module(module: Any) -> Any:
    import torch

    @torch.no_grad()
    def run(images: Any) -> Any:
        return module(torch.from_numpy(images)).numpy()

    return run


RUNNERS = {"onnx": run_onnx, "pt2": run_pt2, "safetensors": run_safetensors}


def main(path: str) -> None:
    import numpy

    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    run, images = RUNNERS[job["kind"]](job), numpy.load(job["images"])
    outputs: list[Any] = []
    start = 0
    while start < len(images):
        size = AT_ONCE[min(len(outputs), len(AT_ONCE) - 1)]
        outputs.append(run(images[start : start + size]))
        start += size
    numpy.save(job["outputs"], numpy.concatenate(outputs))
    print(json.dumps({"loaded_by": job.get("loaded_by", "")}))


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusal)
    main(sys.argv[1])
