"""Idle threads sleep, unless the user decided otherwise or it is too late."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.system.threads import WAITING

TELL = "import bench, os; print(os.environ.get('OMP_WAIT_POLICY'))"


@pytest.mark.parametrize(
    ("chosen", "before", "expected"),
    [
        ({}, "", "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "", "active"),
        ({"GOMP_SPINCOUNT": "100"}, "", "None"),
        ({}, "import sys; sys.modules['torch'] = sys; ", "None"),
    ],
)
def test_importing_bench_sets_what_nobody_chose(chosen: dict[str, str], before: str, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | chosen
    said = subprocess.run([sys.executable, "-c", before + TELL], env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == expected, said.stderr
