"""What a user gets wrong, told in one line."""

from pathlib import Path


class BenchError(Exception):
    """Bad input or surroundings: the message names the value, where it came from and what would work.

    The command line prints it without a traceback and exits with code 2.
    """


class BadArgument(BenchError):
    """A value of an argument that cannot be used: `device='tpu': expected auto, cpu, cuda or cuda:N`.

    `argument` is the Python name, `value` what was given, `problem` what is wrong with it and what would work. The
    command line words the same as `--device tpu: expected ...`, so no message of the library spells an option.
    """

    def __init__(self, argument: str, value: object, problem: str) -> None:
        super().__init__(f"{argument}={str(value) if isinstance(value, Path) else value!r}: {problem}")
        self.argument, self.value, self.problem = argument, value, problem


class BudgetExceeded(BenchError):
    """A method asked for more training than its budget holds."""


class Diverged(BenchError):
    """The loss stopped being a number."""


class MethodFault(BenchError):
    """A method broke a rule that methods are held to: wrong scores, no model returned, an exception of its own."""


class Refused(BenchError):
    """A method cannot be applied to this network with these options."""


class NoEffectWarning(UserWarning):
    """A method left the network as it was."""
