"""Where a Ray cluster is. Ray itself would wait without end for an address where nothing answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from bench.system.errors import BadArgument

AUTO = "auto"
"""The address for what Ray finds by itself: `RAY_ADDRESS`, a cluster that was started here, or a new one."""
CONNECT_SECONDS = 5.0
TOKEN = "if it asks for a token, set RAY_AUTH_MODE=token"
EXPECTED = "expected HOST:PORT, as `ray start` prints it, on a node of the cluster"


def named(address: str) -> str | None:
    """The address to connect to, as HOST:PORT, or None to start a cluster here. BadArgument for a wrong one."""
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS", "")
        if address in ("", AUTO, "local"):
            found = _started_here()
            return found if found and not _unreachable(found) else None
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise BadArgument("ray", address, EXPECTED)
    if problem := _unreachable(address):
        raise BadArgument("ray", address, f"{problem}; {EXPECTED}")
    return address


def _started_here() -> str:
    """The address of the cluster that `ray start` started on this machine last, as Ray keeps it."""
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
    try:
        return (folder / "ray_current_cluster").read_text().strip()
    except OSError:
        return ""


def _unreachable(address: str) -> str:
    """Why nothing can be reached there; empty if something answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        return first_line(error)
    return ""


def first_line(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) else str(error).strip()
    return (told or str(error) or type(error).__name__).splitlines()[0]
