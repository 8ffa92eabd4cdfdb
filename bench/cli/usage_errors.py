"""A user's mistake on the command line: one line, exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from bench.cli.delivered import sync_hint
from bench.system.cache import cache_dir
from bench.system.errors import BadArgument, BenchError, Undelivered

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: of a run with a failed trial, of a command that could not be done, of Ctrl-C."""


UsageError: Any = typer.BadParameter.__base__
"""click's, or the copy of it that newer versions of typer bring."""


class Commands(TyperGroup):
    """A user's mistake, or surroundings that will not do, is one line and exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        anything = bool(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if not anything:
                raise  # the help, for want of a command
            refuse(error)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (BenchError, OSError) as error:
            print(f"bench: {worded(error)}", file=sys.stderr)
            sys.exit(MISTAKE)
        except UsageError as error:
            refuse(error)
        except KeyboardInterrupt:
            print("bench: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
            sys.exit(INTERRUPTED)


def worded(error: Exception) -> str:
    """An error of the library as the command line says it: arguments are options."""
    if isinstance(error, BadArgument):
        return f"--{error.argument.replace('_', '-')} {error.value}: {error.problem}"
    if isinstance(error, Undelivered):
        return f"{error}; {sync_hint(error.root)}"
    if isinstance(error, OSError) and error.filename is not None and _concerns_cache(Path(str(error.filename))):
        return f"{error}; set BENCH_CACHE to a folder that can be written"
    return str(error)


def _concerns_cache(path: Path) -> bool:
    """Whether it lies in the cache, or on the way to it."""
    return path.is_relative_to(cache_dir()) or (cache_dir().is_relative_to(path) and not path.is_dir())


def refuse(error: Any) -> NoReturn:
    print(f"bench: {explained(error)}", file=sys.stderr)
    sys.exit(MISTAKE)


def explained(error: Any) -> str:
    """In one line, with what was typed, what is wrong with the words of a command."""
    what = " ".join(str(error.format_message()).split()).replace("Value error, ", "").replace("Input should", "should")
    what = what.removeprefix("Invalid value: ")
    command = error.ctx.command_path if error.ctx is not None else "bench"
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in sys.argv[:-1]:
            what = f"{option} {sys.argv[sys.argv.index(option) + 1]}: {what.split(': ', 1)[-1]}"
    return f"{what.rstrip('.')}; `{command} --help` tells more"
