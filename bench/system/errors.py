"""What a user gets wrong, told in one line."""


class BenchError(Exception):
    """Bad input or surroundings: the message names the value, where it came from and what would work.

    The command line prints it without a traceback and exits with code 2.
    """


class BudgetExceeded(BenchError):
    """A method asked for more training than its budget holds."""


class Diverged(BenchError):
    """The loss stopped being a number."""


class Refused(BenchError):
    """A method cannot be applied to this network with these options."""


class NoEffectWarning(UserWarning):
    """A method left the network as it was."""
