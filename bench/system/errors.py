"""Mistakes that a user can correct, each reported in one line."""

from pathlib import Path

from bench.system.text import shown


class BenchError(Exception):
    """Bad input or an unsuitable environment. The message names the value, where it came from and what would work.

    The command line prints it without a traceback and exits with code 2.
    """


class BadArgument(BenchError):
    """A value of an argument that cannot be used: `device='tpu': expected auto, cpu, cuda or cuda:N`.

    `argument` is the Python name, `value` what was given, `problem` what is wrong with it and what would work. The
    command line prints it as `--device tpu: expected ...`, so messages of the library never name a command-line option.
    """

    def __init__(self, argument: str, value: object, problem: str) -> None:
        super().__init__(f"{argument}={value if isinstance(value, Path) else shown(value)}: {problem}")
        self.argument, self.value, self.problem = argument, value, problem


class BudgetExceeded(BenchError):
    """A method asked for more training than its budget holds."""


class Diverged(BenchError):
    """The loss stopped being a number."""


class MethodFault(BenchError):
    """A method broke the interface: wrong scores, no model returned, or an exception of its own."""


class Refused(BenchError):
    """A method cannot be applied to this network with these options."""


class Undelivered(BenchError):
    """MLflow is missing, cannot be reached or cannot write; the records are safe in the store at `root`."""

    def __init__(self, message: str, root: Path) -> None:
        super().__init__(f"{message}; the records are safe in {root}")
        self.root = root


class NoBaseline(BenchError):
    """There is no baseline file at the given path; it can be written from the records of a store."""


class NoEffectWarning(UserWarning):
    """A method left the network as it was."""
