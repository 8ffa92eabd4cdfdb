"""The commands of `bench`; each is a few lines around one library call."""

from __future__ import annotations

import atexit
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from bench.cli import completing
from bench.cli.boards import check, compare, leaderboard
from bench.cli.deploying import export, predict
from bench.cli.finding import find
from bench.cli.merging import merge
from bench.cli.options import DEFAULT_STORE, Kind, Store
from bench.cli.reproducing import reproduce
from bench.cli.running import oracle, run, train
from bench.cli.streams import asked, finish, prepare, tell
from bench.cli.submitting import submit, verify
from bench.cli.usage_errors import Commands
from bench.system.cache import VARIABLE
from bench.system.errors import BadArgument
from bench.system.messages import LOG, Loudness, log_to, set_loudness

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{VARIABLE}=DIR in the environment sets the folder for trained baselines and downloads "
    "(default: cnn-compression-bench in the user's cache folder).",
)


def show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("cnn-compression-bench"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but the result and errors; show no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what each trial does, and where an error was raised.")
    ] = False,
) -> None:
    """Compare CNN compression methods: real files, real latency, equal budgets."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet with --verbose: use one of the two")
    set_loudness(Loudness.quiet if quiet else Loudness.verbose if verbose else Loudness.normal)


app.command()(run)
app.command()(find)
app.command()(train)


@app.command(name="list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    match: Annotated[str, typer.Option(help="Only names that contain this text.")] = "",
) -> None:
    """List methods, models or datasets."""
    from bench.cli import listing

    listing.show(kind.value, match)


@app.command()
def show(
    method: Annotated[str, typer.Argument(help="A name from `bench list methods`.", autocompletion=completing.methods)],
) -> None:
    """Show a method: its paper, and its options with types, defaults and meanings."""
    from bench.cli import listing

    listing.show_method(method)


app.command()(oracle)
app.command()(leaderboard)
app.command()(compare)
app.command()(check)
app.command()(reproduce)
app.command()(merge)
app.command()(predict)
app.command()(export)
app.command()(submit)
app.command()(verify)


@app.command()
def sync(store: Store = DEFAULT_STORE) -> None:
    """Deliver all records that MLflow lacks."""
    from bench.records.store import Store as RecordStore
    from bench.tracking import Tracker

    if not store.is_dir():
        raise BadArgument("store", store, "there is no such folder")
    log_to(store / LOG, asked())
    delivered = Tracker(store).sync(RecordStore(store))
    typer.echo(f"{delivered} records delivered")


@app.command()
def ui(
    store: Store = DEFAULT_STORE,
    port: Annotated[int, typer.Option(help="Port to listen on, on this machine only.", min=1, max=65535)] = 5000,
) -> None:
    """Browse the board in MLflow's UI; records that MLflow lacks are delivered first."""
    from bench.tracking import serve

    serve(store, port)


def main() -> None:
    """Run the command line; warnings are one line each."""
    prepare()
    warnings.showwarning = _show_warning
    try:
        app(prog_name="bench")
    finally:
        code = finish()
        # The work is done, so Ctrl-C while Python exits has no effect.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        if code:
            sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    tell(f"warning: {message}")
