"""A real Ray cluster on this machine: `ray start` on loopback, once for each node, with folders of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MEMORY = 80_000_000
START_SECONDS = 90
QUICK_TO_NOTICE = '{"health_check_period_ms": 500, "health_check_failure_threshold": 4}'
"""Ray's settings with which a lost node is noticed after two seconds."""


@dataclass
class Node:
    """A process `ray start --block`, whose end is that of the node."""

    process: subprocess.Popen[str]

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Processes of the node whose command contains `name`."""
        with suppress(psutil.NoSuchProcess):
            return [
                each for each in psutil.Process(self.process.pid).children(recursive=True) if name in command_of(each)
            ]
        return []

    def kill(self) -> None:
        """The node is gone from one moment to the next."""
        for each in [*self.processes(), psutil.Process(self.process.pid)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()


@dataclass
class RayNodes:
    """The nodes, of one CPU each; the first is the head."""

    environment: dict[str, str]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")))
    """Ray's sockets are in it, whose paths may not be long."""
    port: int = 0
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, **environment: str) -> Node:
        """Add a node, and wait until it runs."""
        words = ["--num-cpus=1", f"--object-store-memory={MEMORY}", "--node-ip-address=127.0.0.1", "--block"]
        words += ["--disable-usage-stats"]
        if self.nodes:
            words += [f"--address={self.address}"]
        else:
            self.port = _free_port()
            words += [
                "--head",
                f"--port={self.port}",
                "--include-dashboard=false",
                f"--system-config={QUICK_TO_NOTICE}",
            ]
        said = self.folder / f"node{len(self.nodes)}.txt"
        with said.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
                env=self.environment | {"RAY_TMPDIR": str(self.folder)} | environment,
                stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        ends = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in said.read_text():
            assert process.poll() is None and time.monotonic() < ends, said.read_text()
            time.sleep(0.1)
        self.nodes.append(Node(process))
        return self.nodes[-1]

    def stop(self) -> None:
        for node in reversed(self.nodes):
            if node.process.poll() is None:
                node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def environment_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.environ().values())
    return ""
