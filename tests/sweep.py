"""Any network: every method on the smallest network of every convolutional family of timm and pytorchcv.

    python tests/sweep.py --methods all --families all --jobs 1 --out results/sweep.md

A family is a module of timm, or `pytorchcv`, and the name before the numbers, `resnet/seresnext`; it is convolutional
where windows overlap, so that a patch embedding alone does not count. Its smallest network gets random weights,
statistics that matter, the smallest of a few image sizes that it runs on, and no training. A cell is one setting on one
family, in a process of its own with a time limit. It is

    ok      every convolution is encoded or smaller
    n/m     n of m convolutions are, and each of the others says why not
    dense   none of them is, and each says why
    refused the method said in one line that it cannot be applied
    FAILED  anything else: an exception, a layer without a word, outputs or figures that do not agree

Finished cells stand in a CSV beside the Markdown: issued again, the command does what is missing and merges.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import multiprocessing.connection
import os
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import matplotlib.figure  # noqa: F401
import torch
import torch_pruning  # type: ignore[import-untyped]  # noqa: F401  # once here, not in the process of every cell
from sweep_check import check
from sweep_families import candidates, discover, line
from sweep_table import DISCOVERY, Cell, append, counted, markdown, read

from bench.plugins import registry
from bench.plugins.setting import parse

QUICK = {
    "none": "none",
    "tic": "tic(k=4)",
    "kse": "kse(G=4,T=3)",
    "fixed": "fixed(keep=0.9)",
    "l1": "l1(rate=0.3,tied=True),l1(rate=0.3)+kse(G=4,T=3),l1(granularity=kernel,rate=0.3)+tic(k=4)",
    "magnitude": "magnitude(rate=0.5)",
    "random": "random(rate=0.3)",
    "wcss": "wcss(lowest=0.9,step=8)",
    "taylor": "taylor(rate=0.3,steps=1,batches=1)",
    "dynamic": "dynamic(rate=0.3),dynamic(rate=0.5,granularity=weight)",
    "scratch": "scratch(of=l1(rate=0.3))",
    "quantize": "quantize(bits=8),l1(rate=0.3,tied=True)+quantize(bits=4)",
    "sharing": "sharing(k=8)",
}
"""Settings that take seconds, by method; a method that is not here runs with its defaults."""


def work(found: Cell, setting: str, out: Path, log: Path) -> None:
    """One cell, in a process of its own: a line for the CSV, a traceback for the log."""
    torch.set_num_threads(1)
    started = time.monotonic()
    noise = io.StringIO()
    try:
        with redirect_stderr(noise), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cell = discover(found.family) if setting == DISCOVERY else check(found, parse(setting)[0])
    except BaseException as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        cell = failure(found, setting, kind + line(error))
        with log.open("a") as file:
            file.write(f"{found.family} ({found.model}), {setting}\n{traceback.format_exc()}\n")
    append(out, Cell(**asdict(cell) | {"setting": setting, "seconds": round(time.monotonic() - started, 2)}))


def failure(found: Cell, setting: str, reason: str) -> Cell:
    return Cell(found.family, setting, "FAILED", found.model, found.image_size, found.params, reason=reason)


def run(todo: list[tuple[Cell, str]], out: Path, log: Path, jobs: int, limit: float) -> None:
    """Every cell in a process of its own, `jobs` at a time, each at most `limit` seconds."""
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[Cell, str, float]] = {}
    for number, (found, setting) in enumerate(todo, 1):
        while len(running) >= jobs:
            _reap(running, out, limit)
        process = context.Process(target=work, args=(found, setting, out, log))
        process.start()
        running[process] = found, setting, time.monotonic()
        print(f"[{number}/{len(todo)}] {found.family}: {setting}", flush=True)
    while running:
        _reap(running, out, limit)


def _reap(running: dict[Any, tuple[Cell, str, float]], out: Path, limit: float) -> None:
    multiprocessing.connection.wait([process.sentinel for process in running], timeout=1)
    for process, (found, setting, started) in list(running.items()):
        late = time.monotonic() - started > limit
        if process.is_alive() and not late:
            continue
        if process.is_alive():
            process.kill()
        process.join()
        if process.exitcode:
            why = f"not done within {limit:g} s" if late else f"its process ended with {process.exitcode}"
            append(out, failure(found, setting, why))
        del running[process]


def settings_of(text: str) -> list[str]:
    wanted = ",".join(QUICK.get(name, name) for name in registry.methods()) if text == "all" else text
    return [str(pipeline) for pipeline in parse(wanted)]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", default="all", help="settings as `bench run` takes them; all: each of the registry"
    )
    parser.add_argument(
        "--families", default="all", help="names or patterns, 'resnet/*,vgg/vgg'; modules: the smallest of each module"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600, help="seconds for one cell")
    parser.add_argument("--retry", default="", help="do cells of this status again, with commas: FAILED,dense")
    parser.add_argument("--out", type=Path, default=Path("results/sweep.md"))
    parser.add_argument("--log", type=Path, default=Path("runs/sweep.log"), help="tracebacks of what failed")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    out: Path = options.out.with_suffix(".csv")
    for path in (out, options.log):
        path.parent.mkdir(parents=True, exist_ok=True)
    patterns = ["*"] if options.families in ("all", "modules") else options.families.split(",")
    families = [name for name in candidates() if any(fnmatchcase(name, pattern) for pattern in patterns)]
    again = set(options.retry.split(","))

    def missing(family: str, setting: str) -> bool:
        return (family, setting) not in known or known[family, setting].status in again

    known = read(out)
    looked_for = [(Cell(family, DISCOVERY, ""), DISCOVERY) for family in families if missing(family, DISCOVERY)]
    run(looked_for, out, options.log, options.jobs, options.limit)
    known = read(out)
    found = [cell for cell in known.values() if cell.status == "found" and cell.family in families]
    found.sort(key=lambda cell: cell.params)
    if options.families == "modules":
        found = list({cell.family.split("/")[0]: cell for cell in reversed(found)}.values())[::-1]
    todo = [(cell, s) for cell in found for s in settings_of(options.methods) if missing(cell.family, s)]
    run(todo, out, options.log, options.jobs, options.limit)
    cells = dict(sorted(read(out).items()))
    whole = out.with_suffix(".tmp")
    whole.unlink(missing_ok=True)
    for cell in cells.values():
        append(whole, cell)
    whole.replace(out)
    command = f"python tests/sweep.py --methods {options.methods} --families {options.families}"
    options.out.write_text(markdown(cells, command))
    print(f"{options.out}: {counted(Counter(c.status for c in cells.values() if c.setting != DISCOVERY))}")


if __name__ == "__main__":
    main()
