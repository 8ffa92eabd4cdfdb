"""The commands for results that others measured: `bench submit` and `bench verify`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.boards import Maxima, Minima, OnFront, OnlyDatasets, OnlyMethods, OnlyModels, put, question_of
from bench.cli.deploying import Download, Network
from bench.cli.options import DEFAULT_STORE, DataRoot, Device, path
from bench.cli.streams import tell
from bench.cli.usage_errors import FAILED, MISTAKE
from bench.system.files import check_place
from bench.system.text import counted

if TYPE_CHECKING:
    from bench.verifying.findings import Verification


class Form(StrEnum):
    table = "table"
    md = "md"
    json = "json"


def submit(
    out: Annotated[Path, typer.Option(parser=path, help="File to write, such as mine.zip.")],
    store: Annotated[Path, typer.Argument(parser=path, help="The store to take trials from.")] = DEFAULT_STORE,
    minima: Minima = None,
    maxima: Maxima = None,
    method: OnlyMethods = None,
    model: OnlyModels = None,
    dataset: OnlyDatasets = None,
    front: OnFront = False,
) -> None:
    """Pack records with their artifacts, predictions and tables into one file, to be verified elsewhere.

    The options choose settings as those of `bench leaderboard` do; without them, all are packed.
    """
    check_place(out, "out")
    from bench.verifying.submit import submit

    packed = submit(store, out, question_of(minima, maxima, method, model, dataset, front))
    typer.echo(f"{out}: {counted(packed.trials, 'trial', 'trials')}, {packed.bytes:,} bytes")
    if packed.incomplete:
        left_out = counted(packed.incomplete, "trial without its artifact", "trials without their artifacts")
        tell(f"left out: {left_out} or predictions")
    tell(f"`bench verify {out}` shows what others will find")


def verify(
    paths: Annotated[
        list[Path], typer.Argument(parser=path, help="Stores, folders of single trials, files from `bench submit`.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="The images, if no installed dataset has the record's name: folder:PATH.")
    ] = None,
    data_root: DataRoot = None,
    model: Network = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A file with the weights of a dense network, which is then tested too; may be given several times. "
            "Included, cached and published weights are found without it."
        ),
    ] = None,
    device: Device = "auto",
    format: Annotated[Form, typer.Option(help="Form of the report.")] = Form.table,
    out: Annotated[Path | None, typer.Option(parser=path, help="File for the report.")] = None,
    allow_download: Download = False,
) -> None:
    """Reload artifacts and recompute what their records claim; nothing of the submitter's is run.

    Exit code 1 if something differs, 2 if a trial could not be verified here.
    """
    if out is not None:
        check_place(out, "out")
    from bench.system.environment import select_device
    from bench.verifying.opening import Materials, Options
    from bench.verifying.submitted import submitted_at
    from bench.verifying.verify import verify_all

    options = Options(select_device(device), dataset, data_root, model, tuple(weights or ()), allow_download)
    with submitted_at(paths) as found:
        verified = [shown(each, format, out) for each in verify_all(found.trials, Materials(options))]
    conclude(verified, found.failed, format, out)
    leave(verified)


def shown(each: Verification, format: Form, out: Path | None) -> Verification:
    """A trial, which is printed at once if the report goes to the screen."""
    from bench.system.terminal import output
    from bench.verifying.report import print_trial

    if format is Form.table and out is None:
        print_trial(each, output())
    return each


def conclude(verified: Sequence[Verification], failed: int, format: Form, out: Path | None) -> None:
    """The summary below trials that were printed one by one, or the whole report."""
    from bench.system.terminal import output
    from bench.verifying import report

    if format is Form.table and out is None:
        report.print_summary(verified, failed, output())
    else:
        form = {Form.table: report.to_text, Form.md: report.to_markdown, Form.json: report.to_json}[format]
        put(form(verified, failed), out)


def leave(verified: Sequence[Verification]) -> None:
    """End with the exit code for these outcomes."""
    from bench.verifying.findings import Outcome

    outcomes = {each.outcome for each in verified}
    if Outcome.DIFFERS in outcomes:
        raise typer.Exit(FAILED)
    if Outcome.LACKING in outcomes:
        raise typer.Exit(MISTAKE)
