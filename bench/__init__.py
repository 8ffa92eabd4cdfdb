"""A benchmark harness and leaderboard for CNN compression methods.

What a method or a dataset needs is here: `from bench import Method, Lab, ...`. The names stand in `__init__.pyi`, which
type checkers read too; each is imported on first use, so that the command line answers before torch is imported.
"""

import lazy_loader

from bench.system.threads import sleep_when_idle

sleep_when_idle()  # here, because OpenMP reads its settings when torch is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
