"""The fixtures of the contract tests."""

from bench.testing.fixtures import make_lab as make_lab
from bench.testing.fixtures import make_model as make_model
from bench.testing.fixtures import one_thread as one_thread
