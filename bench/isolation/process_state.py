"""The settings of Python and of the operating system that apply to the whole process."""

from __future__ import annotations

import gc
import locale
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from typing import Any

from bench.isolation.state import State, changed_keys, unnamed

LOADERS_HANDLER = "torch.utils.data._utils.signal_handling"
STREAMS = ("stdin", "stdout", "stderr")


def process_states() -> list[State]:
    return [
        State("working directory", os.getcwd, os.chdir),
        State("umask", _umask, os.umask),
        State("environment variables", lambda: dict(os.environ), _restore_environment, changed_keys),
        State("sys.path", lambda: tuple(sys.path), _restore_path, unnamed),
        *(_stream(name) for name in STREAMS),
        *(_attribute(name) for name in ("excepthook", "displayhook", "unraisablehook")),
        State("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        State("switch interval of threads", sys.getswitchinterval, sys.setswitchinterval),
        State("trace function", sys.gettrace, sys.settrace, unnamed),
        State("profile function", sys.getprofile, sys.setprofile, unnamed),
        State("garbage collection", lambda: (gc.isenabled(), gc.get_threshold()), _set_collection),
        State("signal handlers", _handlers, _restore_handlers, changed_keys),
        State("alarm timers", _alarms, _restore_alarms),
        State("warnings filters", _filters, _restore_filters),
        State("warnings.showwarning", lambda: warnings.showwarning, _set_showwarning, unnamed),
        State("the root logger", _logging, _restore_logging, unnamed),
        State("locale", lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v)),
        State("multiprocessing start method", _start_method, _set_start_method),
        *_scheduling(),
    ]


def _umask() -> int:
    """The umask, which can only be read by setting another one, here the strictest."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _restore_path(before: tuple[str, ...]) -> None:
    sys.path[:] = before


def _stream(name: str) -> State:
    """A standard stream. Each time a progress bar is shown, it wraps the stream in a new object."""

    def read() -> Any:
        stream = getattr(sys, name)
        return getattr(stream, "rich_proxied_file", stream)

    return State(f"sys.{name}", read, lambda before: setattr(sys, name, before), unnamed)


def _attribute(name: str) -> State:
    return State(f"sys.{name}", lambda: getattr(sys, name), lambda value: setattr(sys, name, value), unnamed)


def _set_collection(value: tuple[bool, tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


def _handlers() -> dict[signal.Signals | int, Any]:
    return {number: _handler(number) for number in signal.valid_signals()}


def _handler(number: signal.Signals | int) -> Any:
    """The handler. The one that the first loader with workers installs, to notice that they died, is ignored."""
    handler = signal.getsignal(number)
    return signal.SIG_DFL if getattr(handler, "__module__", None) == LOADERS_HANDLER else handler


def _restore_handlers(before: dict[signal.Signals | int, Any]) -> None:
    """Restore handlers. Python sets them only in the main thread. None stands for one that Python did not install."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in before.items():
        if handler is not None and _handler(number) != handler:
            signal.signal(number, handler)


def _alarms() -> dict[str, bool]:
    """Whether each timer runs; the remaining seconds are left out, because they change by themselves."""
    names = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    return {name: signal.getitimer(getattr(signal, name))[0] > 0 for name in names if hasattr(signal, name)}


def _restore_alarms(before: dict[str, bool]) -> None:
    for name, runs in before.items():
        if not runs:
            signal.setitimer(getattr(signal, name), 0)


def _filters() -> tuple[Any, ...]:
    """The filters that apply to every message from anywhere, such as `simplefilter("ignore")`.

    Filters that libraries add for their own messages on import are left out, because they hide nothing of a trial.
    """
    return tuple(entry for entry in warnings.filters if entry[1] is None and entry[3] is None)


def _restore_filters(before: tuple[Any, ...]) -> None:
    specific = [entry for entry in warnings.filters if entry[1] is not None or entry[3] is not None]
    warnings.filters[:] = [*specific, *before]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _logging() -> tuple[Any, ...]:
    """Level, switches and handlers of the root logger, without the handler that the first logged line installs."""
    root = logging.getLogger()
    return root.level, root.disabled, root.manager.disable, tuple(filter(_is_chosen, root.handlers))


def _is_chosen(handler: logging.Handler) -> bool:
    written = handler.formatter._fmt if handler.formatter else None
    return type(handler) is not logging.StreamHandler or handler.level > 0 or written != logging.BASIC_FORMAT


def _restore_logging(before: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.setLevel(before[0])
    root.disabled = before[1]
    logging.disable(before[2])
    root.handlers[:] = before[3]


def _set_showwarning(before: Any) -> None:
    warnings.showwarning = before


def _start_method() -> str:
    """The start method, or the default that will apply from the first worker on."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _set_start_method(before: str) -> None:
    multiprocessing.set_start_method(before, force=True)


def _scheduling() -> list[State]:
    """Where the operating system runs the process; not every system can tell."""
    states = []
    if hasattr(os, "sched_getaffinity"):
        states.append(
            State("processors", lambda: sorted(os.sched_getaffinity(0)), lambda cores: os.sched_setaffinity(0, cores))
        )
    if hasattr(os, "getpriority"):
        states.append(
            State(
                "priority of the process",
                lambda: os.getpriority(os.PRIO_PROCESS, 0),
                lambda value: os.setpriority(os.PRIO_PROCESS, 0, value),
            )
        )
    return states
