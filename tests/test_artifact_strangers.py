"""Artifacts from strangers: whatever their manifest and bytes say, they load or are refused in one line."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as serialized
from torch import nn

import bench
from bench.encodings import Mask, SharedFilters, artifact
from bench.encodings.base import encode
from bench.encodings.manifest import FORMAT
from bench.networks import zoo
from bench.networks.layers import convolutions

from .tiny_artifact import Tiny, changed, load_or_refuse, manifest_of, refusal, with_manifest
from .tiny_artifact import tiny_network as tiny_network
from .tiny_artifact import whole as whole

fuzz = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("architecture", [], "architecture: Input should be an object"),
        ("architecture/model", [None], "architecture.model: Input should be a valid string"),
        ("architecture/model", "resnet2O", "no network is called 'resnet2O'; did you mean .*resnet20"),
        ("architecture/model", "a\nb\x1b[31m", "architecture.model: String should match pattern"),
        ("architecture/classes", 2.0, "architecture.classes: Input should be a valid integer"),
        ("architecture/classes", True, "architecture.classes: Input should be a valid integer"),
        ("architecture/image_size", 10**9, "architecture.image_size: Input should be less than or equal to 4096"),
        ("shapes", [], "shapes: Input should be an object"),
        ("shapes", {"one.weight": [4, -3, 3, 3]}, "shapes.one.weight.1: Input should be greater than or equal to 0"),
        ("shapes", {"norm.weight": [5]}, r"norm.weight has the shape \[5\], which does not fit into \(4,\)"),
        ("shapes", {"norm.weight": [1, 1]}, r"norm.weight has the shape \[1, 1\], which does not fit into \(4,\)"),
        ("layers", [], "layers: Input should be an object"),
        ("layers/one", 3, "layers.one: Input should be an object"),
        ("layers/none", {"kind": "mask", "shape": [1]}, "the network has no convolution or linear layer called 'none'"),
        ("layers/one/shape", [4, 2, 3, 3], r"one: the weight has the shape \(4, 2, 3, 3\), the network's is \(4, 3, 3"),
        ("layers/one/kind", "../x", "no installed package has an encoding called '../x'"),
        ("layers/one/count", 10**12, "a weight claims 1000000000000 labels, the whole network has 734 numbers"),
        ("layers/three/levels", [0.5, 2.5], "its manifest does not describe a network"),
        ("layers/three/groups", 0, r"its manifest does not describe a network \(ZeroDivisionError"),
        ("layers/three/groups", 10**9, "the packed stream ends early"),
        ("layers/four/k", 1, "stream|index out of range"),
        ("layers/five/bits", 9, "numbers of 9 bits; expected 2, 3, 4, 5, 6, 7, 8, 16"),
        ("layers/five/bits", True, "numbers of True bits"),
        ("layers/five/bits", 6, "stream"),
        ("layers/five/bits", 16, "the float16 stream ends early"),
        ("layers/five/content", "quantized", "the encoding 'quantized' cannot be quantized"),
        ("layers/five/content", "mask", "its manifest does not describe a network"),
        ("layers/five/content", ["x"], "no installed package has an encoding called"),
        ("layers/head/k", 10**12, "the packed stream ends early"),
        ("layers/head/count", 10**12, "a weight claims 1000000000000 labels|the packed stream ends early"),
        ("books", [[3, 10**9, 3], [2, 3, 3]], "the float32 stream ends early"),
        ("books", [[3, 3, 3], [2, 10**9, 3]], "the packed stream ends early"),
        ("integers/order", [1], "its manifest does not describe a network"),
    ],
)
def test_an_odd_manifest_is_one_line(place: str, value: Any, told: str, whole: bytes, tmp_path: Path) -> None:
    found = refusal(changed(whole, place, value), tmp_path / "model")
    assert re.search(told, found), found


@pytest.mark.parametrize("text", [None, "", "{", "3", "[" * 100_000, "9" * 5_000, '{"a": NaN}'])
def test_a_manifest_that_is_none_is_one_line(text: str | None, whole: bytes, tmp_path: Path) -> None:
    assert "its manifest does not describe a network" in refusal(with_manifest(whole, text), tmp_path / "model")


DEFLATED = base64.b85encode(zlib.compress(b"{}")).decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cut off"),
        ("é", "only ASCII characters"),
        ("\x7f" * 5, "bad base85 character"),
        ("00000", "while decompressing data"),
        (DEFLATED[:-5], "cut off, or longer"),
        (DEFLATED, "architecture: Field required"),
        (base64.b85encode(zlib.compress(b"\xff")).decode(), "codec can't decode"),
        (base64.b85encode(zlib.compress(b" " * (1 << 25))).decode(), "longer than 16777216 bytes"),
    ],
)
def test_a_deflated_manifest_that_is_none_is_one_line(
    text: str | None, told: str, whole: bytes, tmp_path: Path
) -> None:
    found = refusal(with_manifest(whole, text, FORMAT), tmp_path / "model")
    assert found.startswith("its manifest does not describe a network (") and re.search(told, found), found


def test_a_tensor_of_another_type_is_told(tmp_path: Path) -> None:
    metadata = {"format": "cnn-compression-bench 1", "manifest": "{}"}
    for tensors in ({"float32": torch.zeros(2).double()}, {"float32": torch.zeros(1, 2)}, {"more": torch.zeros(2)}):
        assert "unexpected tensor" in refusal(serialized(tensors, metadata=metadata), tmp_path / "model")


ODD = st.sampled_from(
    [None, True, -1, 0, 1, 2, 3, 7, 10**6, 10**9, 10**30, 1.5, 1e300, "", "x", "mask", "tiny", "hf_hub:a/b", "é\ud800"]
) | st.recursive(st.integers(-2, 5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@fuzz
@given(data=st.data())
def test_any_manifest_loads_or_is_refused(data: st.DataObject, whole: bytes, tmp_path: Path) -> None:
    manifest = manifest_of(whole)
    for _ in range(data.draw(st.integers(1, 2))):
        node = manifest
        *parents, last = data.draw(st.sampled_from(list(places(manifest))))
        for key in parents:
            node = node[key]
        if data.draw(st.booleans()):
            node[last] = deepcopy(data.draw(ODD))
        else:
            del node[last]
    load_or_refuse(with_manifest(whole, json.dumps(manifest)), tmp_path / "model")


@fuzz
@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), share=st.floats(0, 1))
@example(places=[], share=1)
def test_any_bytes_load_or_are_refused(
    places: list[tuple[float, int]], share: float, whole: bytes, tmp_path: Path
) -> None:
    content = bytearray(whole)
    for where, value in places:
        content[int(where**2 * (len(content) - 1))] = value  # most of them in the header
    length = len(content) if share > 0.2 else int(5 * share * len(content))
    load_or_refuse(bytes(content[:length]), tmp_path / "model")


LIMITED = """
import resource, sys
import bench
from pathlib import Path
torch = bench.load.__globals__["torch"]
bench.load.__globals__["zoo"].model_names()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
for path in sys.argv[1:]:
    try:
        bench.load(path)
    except bench.BenchError as error:
        print(error)
"""


ABSURD: dict[str, tuple[Any, str]] = {
    "architecture/classes": (10**9, "its network takes 26000108"),
    "architecture/channels": (10**9, "bytes, the file holds only"),
    "architecture/model": ("vit_7b_patch16_dinov3", "bytes, the file holds only"),
    "layers/layer1.0.conv1/count": (10**12, "a weight claims 1000000000000 labels"),
    "layers/layer1.0.conv2/k": (10**12, "the packed stream ends early"),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="address space is limited on Linux only")
def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    model = zoo.create_model("resnet20", 2, 3)
    layers = convolutions(model)
    sparse = torch.zeros(16, 16, 3, 3, dtype=torch.bool)
    sparse[0, 0, 0, 0] = True
    encode(layers["layer1.0.conv1"], Mask(sparse, torch.ones(16, 16, 3, 3)))
    encode(layers["layer1.0.conv2"], SharedFilters(torch.zeros(16, dtype=torch.long), torch.ones(1, 16, 3, 3)))
    content = artifact.dump(model, artifact.Architecture("resnet20", 2, 3))
    paths = [tmp_path / str(number) for number in range(len(ABSURD))]
    for path, (place, (value, _)) in zip(paths, ABSURD.items(), strict=True):
        path.write_bytes(changed(content, place, value))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, env=environment)
    for line, (_, told) in zip(ran.stdout.splitlines(), ABSURD.values(), strict=True):
        assert told in line, ran
    assert not ran.stderr, ran


def test_labels_that_take_no_room_are_bounded_by_the_network(whole: bytes, tmp_path: Path) -> None:
    content = changed(whole, "layers/three/levels", [1])
    content = changed(content, "layers/three/groups", 10**9)
    assert "a weight claims 4000000000 labels" in refusal(content, tmp_path / "model")


def test_nothing_is_fetched_unless_asked(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def create(name: str, *words: Any, **options: Any) -> nn.Module:
        fetched.append(name)
        return Tiny()

    monkeypatch.setattr(zoo, "create_model", create)
    for name in ("hf_hub:someone/net", "hf-hub:someone/net"):
        content = changed(whole, "architecture/model", name)
        assert f"the network '{name}' would have to be fetched" in refusal(content, tmp_path / "model")
        assert not fetched
        assert isinstance(bench.load(tmp_path / "model", allow_download=True), Tiny)
        assert fetched.pop() == name and fetched.pop() == name
