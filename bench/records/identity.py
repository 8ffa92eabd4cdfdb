"""What identifies a trial, and the fingerprint that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PARTS = (
    "protocol",
    "recalibrate",
    "stages",
    "sources",
    "model",
    "dataset",
    "dataset_digest",
    "weights_digest",
    "preprocessing",
    "recipe",
    "seed",
    "epochs",
    "precision",
    "device",
    "model_source",
    "attack",
    "runtime",
    "runtime_version",
    "timed",
)
"""The entries of a record's `config` that identify its trial; the others describe it."""
OPTIONAL = ("model_source", "attack", "runtime", "runtime_version", "timed")
"""The parts that only some trials have."""


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 (16 hex digits) of what identifies a trial; equal for values that JSON writes alike."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's `config` that identifies its trial."""
    return {name: config[name] for name in PARTS if name in config}
