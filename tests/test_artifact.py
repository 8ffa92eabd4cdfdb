"""Artifacts from strangers, from other processes and from earlier versions."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as serialized
from torch import Tensor, nn

import bench
from bench.encodings import (
    ChannelKernels,
    Mask,
    Quantized,
    ScaledKernels,
    SharedFilters,
    SharedWeights,
    artifact,
    origin,
)
from bench.encodings.base import Codebook, Encoding, Reader, Writer, encode
from bench.encodings.manifest import FORMAT, PLAIN_FORMAT, manifest_text
from bench.networks import zoo
from bench.networks.layers import convolutions
from bench.networks.work import Work
from bench.system.errors import BenchError

RESULTS = Path(__file__).parents[1] / "results" / "fashion-mnist" / "records"

fuzz = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Tiny(nn.Module):
    """Five convolutions and a linear layer, one for each encoding; two are quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.three, self.four = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.five = nn.Conv2d(4, 4, 3)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.register_buffer("order", torch.arange(3))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.five(self.four(self.three(self.two(self.one(images))))))
        return self.head(maps.mean((2, 3)))


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name 'tiny' builds a `Tiny`."""
    create = zoo.create_model
    monkeypatch.setattr(zoo, "create_model", lambda name, *words, **options: build(name, create, *words, **options))


def build(name: Any, create: Callable[..., nn.Module], *words: Any, **options: Any) -> nn.Module:
    return Tiny() if name == "tiny" else create(name, *words, **options)


def quantized(inner: Encoding, bits: int) -> Quantized:
    return Quantized(inner, bits, [inner.right_inverse(torch.zeros(inner.shape))])


def compressed() -> nn.Module:
    torch.manual_seed(0)
    model = Tiny().eval()
    ones = torch.ones(4, 4)
    labels = torch.tensor([[0, 1, 2, 1]] * 4)
    dropped = ones.clone()
    dropped[0, 0] = 0
    encode(model.one, Mask(torch.rand(4, 3) < 0.6, model.one.weight))
    encode(model.two, ScaledKernels(Codebook(torch.randn(3, 3, 3)), labels, labels * 0, dropped, 8))
    by_channel = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]])
    encode(model.three, ChannelKernels(torch.tensor([0, 2, 4, 4]), by_channel, torch.randn(10, 3, 3), 1))
    encode(model.four, SharedFilters(torch.tensor([0, 1, 1, 0]), torch.randn(2, 4, 3, 3)))
    encode(model.five, quantized(ScaledKernels(Codebook(torch.randn(2, 3, 3)), labels % 2, labels * 0, ones, 1), 5))
    shared = SharedWeights(torch.arange(8).view(2, 4) % 3, torch.randn(3), torch.rand(2, 4) < 0.6)
    encode(model.head, quantized(shared, 8))
    model.order += 1
    return model


@pytest.fixture
def whole() -> bytes:
    return artifact.dump(compressed(), artifact.Architecture("tiny", 2, 3))


def manifest_of(content: bytes) -> dict[str, Any]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    described: dict[str, Any] = json.loads(manifest_text(header["__metadata__"]))
    return described


def streams_of(content: bytes) -> bytes:
    return content[8 + int.from_bytes(content[:8], "little") :]


def with_manifest(content: bytes, manifest: str | None, form: str = PLAIN_FORMAT) -> bytes:
    """The file with another manifest, by default as text, as earlier versions wrote it."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    del header["__metadata__"]["manifest"]
    header["__metadata__"]["format"] = form
    if manifest is not None:
        header["__metadata__"]["manifest"] = manifest
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_or_refuse(content: bytes, path: Path) -> nn.Module | str:
    path.write_bytes(content)
    try:
        return artifact.load(path)
    except BenchError as error:
        told = str(error)
        assert told.startswith(f"{path}: ") and "\n" not in told and len(told) < len(str(path)) + 500
        return told.removeprefix(f"{path}: ")


def refusal(content: bytes, path: Path) -> str:
    told = load_or_refuse(content, path)
    assert isinstance(told, str), "the file was loaded"
    return told


def changed(content: bytes, place: str, value: Any) -> bytes:
    """The file with another value at a place of its manifest such as `layers/one/shape`."""
    manifest = node = manifest_of(content)
    *parents, last = place.split("/")
    for key in parents:
        node = node[key]
    node[last] = value
    return with_manifest(content, json.dumps(manifest))


def test_the_tiny_network_survives(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(whole)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        for folded in (True, False):
            assert torch.equal(artifact.load(tmp_path / "model", folded=folded)(images), compressed()(images))
    assert artifact.load(tmp_path / "model").order.tolist() == [1, 2, 3]


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


def test_the_manifest_takes_less_room_than_its_text(whole: bytes) -> None:
    """It is deflated: base 85 adds a quarter to that."""
    plain = with_manifest(whole, json.dumps(manifest_of(whole), separators=(",", ":")))
    assert streams_of(plain) == streams_of(whole) and len(whole) < 0.75 * (len(plain) - len(streams_of(plain))) + len(
        streams_of(whole)
    )


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
try:
    bench.load(sys.argv[1])
except bench.BenchError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="address space is limited on Linux only")
@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("architecture/classes", 10**9, "its network takes 26000108"),
        ("architecture/channels", 10**9, "bytes, the file holds only"),
        ("architecture/model", "vit_7b_patch16_dinov3", "bytes, the file holds only"),
        ("layers/layer1.0.conv1/count", 10**12, "a weight claims 1000000000000 labels"),
        ("layers/layer1.0.conv2/k", 10**12, "the packed stream ends early"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(
    place: str, value: Any, told: str, tmp_path: Path
) -> None:
    model = zoo.create_model("resnet20", 2, 3)
    layers = convolutions(model)
    sparse = torch.zeros(16, 16, 3, 3, dtype=torch.bool)
    sparse[0, 0, 0, 0] = True
    encode(layers["layer1.0.conv1"], Mask(sparse, torch.ones(16, 16, 3, 3)))
    encode(layers["layer1.0.conv2"], SharedFilters(torch.zeros(16, dtype=torch.long), torch.ones(1, 16, 3, 3)))
    content = artifact.dump(model, artifact.Architecture("resnet20", 2, 3))
    (tmp_path / "model").write_bytes(changed(content, place, value))
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert told in ran.stdout and not ran.stderr, ran


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


TWICE = """
import hashlib, torch
from bench.encodings import artifact
torch.manual_seed(0)
model = artifact.Architecture("resnet20", 2, 3).build()
print(hashlib.sha256(artifact.dump(model, artifact.Architecture("resnet20", 2, 3))).hexdigest())
"""


def test_equal_networks_give_equal_bytes_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", TWICE],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in range(4)
    }
    assert len(digests) == 1


def test_the_header_is_in_a_fixed_order_and_no_longer_than_before() -> None:
    tensors, metadata = {"b": torch.zeros(3), "a": torch.zeros(2).half()}, {"manifest": 'é"\\', "format": "1"}
    plain = serialized(tensors, metadata=metadata)
    from bench.encodings.manifest import in_fixed_order

    ordered = in_fixed_order(plain)
    end = 8 + int.from_bytes(ordered[:8], "little")
    assert len(ordered) == len(plain) and end % 8 == 0
    assert list(json.loads(ordered[8:end])["__metadata__"].items()) == [("format", "1"), ("manifest", 'é"\\')]
    assert ordered[end:] == plain[8 + int.from_bytes(plain[:8], "little") :]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/model.safetensors"))[::6], ids=lambda path: path.parent.name)
def test_committed_files_are_written_again_to_the_byte(path: Path, tmp_path: Path) -> None:
    record = json.loads((path.parent / "record.json").read_text())
    assert path.stat().st_size == record["artifact_bytes"]
    bench.save(bench.load(path, folded=False), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent / "golden" / "format-1").iterdir()), ids=lambda p: p.stem
)
def test_files_of_the_first_format_load_and_would_hold_the_same(path: Path) -> None:
    before = path.read_bytes()
    model = bench.load(path, folded=False)
    after = artifact.dump(model, artifact.Architecture(**manifest_of(before)["architecture"]))
    assert len(after) < len(before) and manifest_of(after) == manifest_of(before)
    assert streams_of(after) == streams_of(before)


class Signs(Encoding):
    """One bit a weight, one scale a filter: an encoding that counts nothing itself."""

    kind = "test-signs"

    def __init__(self, signs: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.shape = tuple(signs.shape)
        self.register_buffer("signs", signs)
        self.initial = scales

    def forward(self, *stored: Tensor) -> Tensor:
        signs: Any = self.signs
        return (2.0 * signs - 1) * stored[0][:, None, None, None]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial.to(weight)

    def macs(self, work: Work) -> int:
        return work.macs

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        signs: Any = self.signs
        writer.integers(signs, 1)
        writer.halves(stored[0])
        return {}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        return cls(reader.integers(1, *shape).bool(), reader.halves(shape[0]))


def signed() -> nn.Module:
    model = Tiny().eval()
    encode(model.two, Signs(model.two.weight.detach() > 0, torch.ones(4)))
    return model


def test_the_bits_follow_from_what_is_stored() -> None:
    encoding = Signs(torch.ones(4, 3, 3, 3, dtype=torch.bool), torch.ones(4))
    assert encoding.bits() == encoding.formula_bits() == 4 * 3 * 9 * 1 + 4 * 16


def test_codebooks_are_counted_apart() -> None:
    labels = torch.zeros(4, 4, dtype=torch.long)
    encoding = ScaledKernels(Codebook(torch.randn(3, 3, 3)), labels, labels, torch.ones(4, 4), 1)
    assert encoding.bits() == 16 * (2 + 16) and encoding.codebook.bits == 3 * 9 * 32


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("signs-of-somebody", "1.2", "came from package signs-of-somebody version 1.2, which is not installed"),
        ("pytest", "0.1", rf"came from package pytest version 0.1; the installed version {pytest.__version__} has no"),
    ],
)
def test_a_file_names_the_package_that_it_lacks(
    name: str, version: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "package_of", lambda kind: origin.Package(name=name, version=version))
    content = artifact.dump(signed(), artifact.Architecture("tiny", 2, 3))
    assert isinstance(load_or_refuse(content, tmp_path / "model"), Tiny)
    monkeypatch.delitem(Encoding.kinds, "test-signs")
    assert f"the encoding 'test-signs' {told}" in refusal(content, tmp_path / "model")


def test_where_encodings_come_from() -> None:
    class Elsewhere:
        __module__ = "pytest"

    found = origin.package_of(Elsewhere)  # type: ignore[arg-type]
    assert found == origin.Package(name="pytest", version=pytest.__version__)
    Elsewhere.__module__ = "bench_methods.tic"
    found = origin.package_of(Elsewhere)  # type: ignore[arg-type]
    assert found is not None and found.name == "cnn-compression-bench"
    assert origin.package_of(Mask) is None
    Elsewhere.__module__ = "__main__"
    assert origin.package_of(Elsewhere) is None  # type: ignore[arg-type]


def test_our_own_encodings_name_no_package(whole: bytes) -> None:
    assert "packages" not in manifest_of(whole)
