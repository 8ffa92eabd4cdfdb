"""A record with the files beside it as bytes, to be sent from the machine that measured it to the store."""

from __future__ import annotations

from collections.abc import Mapping

from bench.records.store import Store, StoreError, regular_files

Parcel = Mapping[str, bytes]
"""Contents by the names of files, `record.json` among them."""


def packed(store: Store, fingerprint: str) -> Parcel:
    """A record of a store, with its files."""
    return {path.name: path.read_bytes() for path in regular_files(store.folder(fingerprint))}


def unpacked(parcel: Parcel, fingerprint: str, store: Store) -> bool:
    """Put a record into a store, whole or not at all; False if another process works on this trial just now.

    If the trial was measured meanwhile, that record stays. StoreError if the parcel does not hold the trial's record.
    """
    if odd := [name for name in parcel if name in ("", ".", "..") or "/" in name or "\\" in name]:
        raise StoreError(f"store {store.root}: {odd[0]!r} is no name of a file beside a record")
    with store.claim(fingerprint) as ours:
        if ours:
            before = store.get(fingerprint)
            if before is None or before.status != "ok":
                with store.prepare(fingerprint) as scratch:
                    for name, content in parcel.items():
                        (scratch / name).write_bytes(content)
    return ours
