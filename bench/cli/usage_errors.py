"""How the command line reports a user's mistake: one line, and exit code 2."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from bench.cli.delivered import sync_hint
from bench.cli.streams import tell
from bench.system import cache
from bench.system.errors import BadArgument, BenchError, NoBaseline, Undelivered
from bench.system.messages import Loudness, loudness
from bench.system.text import shortened, shown

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: a trial failed, the command could not be carried out, Ctrl-C."""
OPTIONAL = "--ray"
"""The option whose value may be left out."""

UsageError: Any = typer.BadParameter.__base__
"""click's class, or that of the copy of click in newer versions of typer."""


LOUDNESS = ("--quiet", "-q", "--verbose", "-v")
"""Options of `bench` itself that may also stand behind the command."""


class Commands(TyperGroup):
    """Commands that report a user's mistake in one line with exit code 2, such as an option that is given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        anything = bool(args)
        before_dashes = args.index("--") if "--" in args else len(args)
        loud = [word for word in args[:before_dashes] if word in LOUDNESS]
        args = loud + [word for place, word in enumerate(args) if word not in LOUDNESS or place >= before_dashes]
        try:
            return super().parse_args(ctx, completed(args))
        except UsageError as error:
            if not anything:
                raise  # without a command, the help is printed
            refuse(error)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None and "make_parser" not in vars(command):
            command.make_parser = partial(parser_of_single_options, command.make_parser)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (BenchError, OSError) as error:
            tell(f"bench: {worded(error)}")
            if loudness() == Loudness.verbose:
                tell(raised_at(error))
            sys.exit(MISTAKE)
        except UsageError as error:
            refuse(error)
        except KeyboardInterrupt:
            tell("bench: interrupted; finished work is kept, and the same command continues from there")
            sys.exit(INTERRUPTED)


def parser_of_single_options(make_parser: Callable[[Any], Any], ctx: Any) -> Any:
    """A command's parser that refuses an option with one value if it is given twice: which of the two was meant?"""
    parser = make_parser(ctx)
    parse = parser.parse_args

    def parse_args(args: list[str]) -> Any:
        parsed = parse(args)
        given = Counter(option for option in parsed[2] if option.param_type_name == "option" and not option.multiple)
        for option, count in given.items():
            if count > 1 and (option.secondary_opts or not option.is_flag) and not ctx.resilient_parsing:
                raise UsageError(f"{'/'.join([option.opts[0], *option.secondary_opts])} is given twice", ctx)
        return parsed

    parser.parse_args = parse_args
    return parser


def raised_at(error: BaseException) -> str:
    """The place in the code where an error was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"bench: raised in {frame.filename}, line {frame.lineno}, {frame.name}"


def completed(args: list[str]) -> list[str]:
    """The words of a command with `auto` after a `--ray` without an address, because typer has no optional values."""
    pairs = pairwise([*args, "-"])
    return [f"{OPTIONAL}=auto" if word == OPTIONAL and then[:1] == "-" else word for word, then in pairs]


def worded(error: Exception) -> str:
    """The message of a library error, with options in place of arguments."""
    from bench.records.merging import Differing
    from bench.records.store import StoreError

    if isinstance(error, OSError):
        return cache.explained(error)
    if isinstance(error, BadArgument):
        return f"--{error.argument.replace('_', '-')} {typed(error.value)}: {error.problem}"
    if isinstance(error, NoBaseline):
        return f"{error}; --update writes one from the store's records"
    if isinstance(error, Undelivered):
        return f"{error}; {sync_hint(error.root)}"
    if isinstance(error, Differing):
        return f"{error}; --keep first or --keep last takes one of the two"
    if isinstance(error, StoreError) and str(error).endswith("choose another folder"):
        return f"{error} with --store DIR"
    return str(error)


def typed(value: object) -> str:
    """A value as it was typed on the command line."""
    if isinstance(value, str):
        return shortened(value)
    return str(value) if isinstance(value, Path) else shown(value)


def refuse(error: Any) -> NoReturn:
    tell(f"bench: {explained(error)}")
    sys.exit(MISTAKE)


def explained(error: Any) -> str:
    """The message of a usage error in one line, with the option and its value."""
    what = " ".join(str(error.format_message()).split()).replace("Value error, ", "").replace("Input should", "should")
    what = what.removeprefix("Invalid value: ")
    command = error.ctx.command_path if error.ctx is not None else "bench"
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in sys.argv[:-1]:
            what = f"{option} {sys.argv[sys.argv.index(option) + 1]}: {what.split(': ', 1)[-1]}"
    return f"{what.rstrip('.')}; see `{command} --help`"
