"""How tests change what was submitted: records, artifacts, predictions, archives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.records.identity import fingerprint_of, identity_in
from bench.records.store import MODEL, PREDICTIONS, RECORD, Store
from bench.verifying.findings import Verification
from bench.verifying.opening import Materials
from bench.verifying.submitted import submitted_at
from bench.verifying.verify import verify


def home(store: Store, method: str) -> Path:
    """The folder of the only trial of a method."""
    (record,) = (record for record in store.records() if record.method == method)
    return store.folder(record.fingerprint)


def edit(folder: Path, **changes: Any) -> Path:
    """Change fields of a record."""
    content = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(content | changes))
    return folder


def edit_config(folder: Path, *, honest: bool = False, **changes: Any) -> Path:
    """Change what identifies a record's trial; with `honest`, its fingerprint and folder follow."""
    content = json.loads((folder / RECORD).read_text())
    content["config"] |= changes
    (folder / RECORD).write_text(json.dumps(content))
    if not honest:
        return folder
    fingerprint = fingerprint_of(identity_in(content["config"]))
    return edit(folder.rename(folder.with_name(fingerprint)), fingerprint=fingerprint)


def edit_predictions(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    tensors = load_file(folder / PREDICTIONS)
    change(tensors)
    save_file(tensors, folder / PREDICTIONS)
    return folder


def truncate(folder: Path, share: float = 0.5) -> Path:
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[: int(share * len(content))])
    return folder


def verified(path: Path, materials: Materials) -> Verification:
    """The verification of the only trial at a place."""
    with submitted_at([path]) as found:
        (trial,) = found.trials
        return verify(trial, materials)


def wrong(verification: Verification) -> dict[str, tuple[str, str]]:
    """What differs: claimed and recomputed."""
    return {finding.name: (finding.claimed, finding.recomputed or finding.note) for finding in verification.differing}


def rewrite(archive: Path, out: Path, change: Callable[[str, bytes], Iterable[tuple[Any, bytes]]]) -> Path:
    """A zip archive in which each entry was replaced by some others."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            for name, content in change(entry.filename, source.read(entry)):
                target.writestr(name, content)
    return out
