"""Records in MLflow: their delivery during a command, and hints where to see them or how to deliver them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.records.store import Store
    from bench.tracking.delivery import Delivery


def delivery_of(records: Store, tracking: bool) -> Delivery | None:
    """What delivers records with `--tracking`."""
    if not tracking:
        return None
    from bench.tracking.delivery import Delivery

    return Delivery(records)


def hint(delivery: Delivery) -> str:
    """The command or the address that shows the delivered records, or the command that delivers them."""
    from bench.tracking import is_server, shown

    if delivery.failed:
        return sync_hint(delivery.store.root)
    if is_server(delivery.uri):
        return f"MLflow at {shown(delivery.uri)} shows them"
    return f"`bench ui {_store(delivery.store.root)}` shows them"


def sync_hint(root: Path) -> str:
    return f"`bench sync {_store(root)}` delivers them to MLflow"


def _store(root: Path) -> str:
    return f"--store {shlex.quote(str(root))}"
