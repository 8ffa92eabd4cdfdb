"""`bench reproduce`: what a paper published, beside what is measured here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import DEFAULT_STORE, Seeds, Store, at_least, path
from bench.cli.streams import tell
from bench.cli.usage_errors import FAILED
from bench.system.files import check_place, write_atomically

if TYPE_CHECKING:
    from bench.reproducing.published import Results


def reproduce(
    paper: Annotated[str, typer.Argument(help="A paper by its short name, such as kse or filter-clustering.")],
    store: Store = DEFAULT_STORE,
    suite: Annotated[
        Path | None, typer.Option(parser=path, help="Also write the paper's settings as a suite for bench run.")
    ] = None,
    seeds: Seeds = 3,
) -> None:
    """Show a paper's published figures beside ours, with what differs between the two.

    What follows from the structure of a network is counted at once; the exit code is 1 if a count differs. Accuracies
    are those of the records in the store.
    """
    at_least("--seeds", seeds, 1, 10_000)
    if suite is not None:
        check_place(suite, "suite")
    from bench.reproducing import published, report
    from bench.reproducing.counting import count
    from bench.system.progress import bar
    from bench.system.terminal import output, styled

    described, console = published.paper(paper), output()
    console.print(styled(described.title, "bold"))
    counted = []
    with bar("counting", len(described.counts)) as advance:
        for row in described.counts:
            counted += count(row)
            advance(1)
    if counted:
        console.print(report.counted_table(counted))
    if described.results is not None:
        show_results(described.results, store)
        if suite is not None:
            write_atomically(suite, report.suite(described.results, described.title, seeds).encode())
            tell(f"written: {suite}; `bench run --suite {suite}` measures it")
    if any(not each.matches for each in counted):
        raise typer.Exit(FAILED)


def show_results(results: Results, store: Path) -> None:
    """Print the measured rows, and what the others need."""
    from rich.padding import Padding

    from bench.records.store import Store as RecordStore
    from bench.reproducing import beside, report
    from bench.system.terminal import output, styled
    from bench.system.text import one_line

    records = RecordStore(store).records() if store.is_dir() else []
    found = list(beside.compare(results, records))
    if found:
        output().print(report.beside_table(found))
    lacking = beside.missing(results, found)
    if lacking:
        output().print(f"not measured in {store} on the paper's network and dataset:")
        for row in lacking:
            figures = ", ".join(f"{name} {value}" for name, value in row.published.items())
            at = f" at {row.at}" if row.at else ""
            needs = f"{row.model} on {row.dataset}" + ("" if row.epochs is None else f", {row.epochs:g} epochs")
            needs += f", {row.weights}" if row.weights else ""
            text = one_line(f"{row.row}: {row.setting}{at} ({figures}); needs {needs}")
            output().print(Padding(styled(text), (0, 0, 0, 2)))
    if results.note:
        output().print(results.note)
