"""Artifacts from other processes and from earlier versions: equal bytes, and every format still loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as serialized

import bench
from bench.encodings import artifact

from .tiny_artifact import compressed, manifest_of, streams_of, with_manifest
from .tiny_artifact import tiny_network as tiny_network
from .tiny_artifact import whole as whole

RESULTS = Path(__file__).parents[1] / "results" / "fashion-mnist" / "records"


def test_the_tiny_network_survives(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(whole)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        for folded in (True, False):
            assert torch.equal(artifact.load(tmp_path / "model", folded=folded)(images), compressed()(images))
    assert artifact.load(tmp_path / "model").order.tolist() == [1, 2, 3]


def test_the_manifest_takes_less_room_than_its_text(whole: bytes) -> None:
    """It is deflated: base 85 adds a quarter to that."""
    plain = with_manifest(whole, json.dumps(manifest_of(whole), separators=(",", ":")))
    assert streams_of(plain) == streams_of(whole) and len(whole) < 0.75 * (len(plain) - len(streams_of(plain))) + len(
        streams_of(whole)
    )


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
