"""The command that joins stores: `bench merge`."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import path
from bench.cli.streams import tell
from bench.cli.usage_errors import FAILED
from bench.system.errors import BenchError
from bench.system.text import counted, listed

if TYPE_CHECKING:
    from bench.records.merging import Merge


class Keep(StrEnum):
    first = "first"
    last = "last"


def merge(
    stores: Annotated[list[Path], typer.Argument(parser=path, help="Stores to join, such as those of shards.")],
    into: Annotated[
        Path, typer.Option(parser=path, help="The store that receives their records; new, or with records of its own.")
    ],
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="Where stores hold different figures for one trial: keep those of the first or the last store. --into "
            "comes first. Without this option nothing is merged then."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done with each record.")] = False,
) -> None:
    """Join stores: every record, with all its files. Stores are only read; run again, it continues.

    A trial that several stores have measured with the same figures, apart from times, is kept once: the record that
    --into holds, or else the earlier. One that was measured replaces one that failed.
    """
    from bench.records import merging
    from bench.records.store import StoreError

    kept: merging.Keep | None = None if keep is None else "first" if keep == Keep.first else "last"
    if dry_run:
        show(merging.plan_merge(stores, into, kept))
        return
    try:
        planned, done = merging.join(stores, into, kept)
    except merging.Differing:
        raise
    except StoreError as error:
        where = " with --into DIR" if str(error).endswith("choose another folder") else ""
        raise BenchError(f"{error}{where}") from error
    typer.echo(f"{into}: {summary(planned, f'{done.copied:,} copied')}")
    if done.held:
        trials = counted(len(done.held), "trial", "trials")
        tell(
            f"not merged: {trials} that another process works on in {into}: {listed(done.held)}; run the command again"
        )
        raise typer.Exit(FAILED)


def show(planned: Merge) -> None:
    """Print one line for each record, and how many there are of each kind."""
    from bench.system.grid import Grid, Heading
    from bench.system.terminal import output
    from bench.system.text import one_line

    names = ("record", "model", "setting", "seed", "from", "what is done")
    table = Grid(
        [Heading(name, folds=name in ("model", "setting", "from", "what is done")) for name in names], ruled=False
    )
    for step in planned.steps:
        record = step.kept.record
        done = step.action + (", measured twice" if step.twice else "")
        words = (record.fingerprint, record.model, record.setting, str(record.seed), str(step.kept.store), done)
        table.add_row(list(map(one_line, words)))
    output().print(table)
    output().print(f"{summary(planned, f'{len(planned.copies):,} to copy')}; nothing was written", soft_wrap=True)


def summary(planned: Merge, copied: str) -> str:
    """What becomes of the records of all stores, counted."""
    from bench.records.merging import REPLACES, THERE

    counts = Counter(step.action for step in planned.steps)
    told = {
        "in place of a failed or incomplete one": counts[REPLACES],
        "there already": counts[THERE],
        "measured twice with the same figures, of which one is kept": sum(step.twice for step in planned.steps),
    }
    return "; ".join(
        [f"{counted(len(planned.steps), 'record', 'records')}, {copied}"]
        + [f"{number:,} {what}" for what, number in told.items() if number]
    )
