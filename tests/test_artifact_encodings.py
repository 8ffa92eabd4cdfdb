"""Encodings of other packages in artifacts: their bits, their codebooks, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.encodings import Mask, ScaledKernels, artifact, origin
from bench.encodings.base import Codebook, Encoding, Reader, Writer, encode
from bench.networks.work import Work

from .tiny_artifact import Tiny, load_or_refuse, manifest_of, refusal
from .tiny_artifact import tiny_network as tiny_network
from .tiny_artifact import whole as whole


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
