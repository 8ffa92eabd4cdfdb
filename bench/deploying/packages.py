"""The packages of the extra `deploy`, which are not installed with the program itself."""

from __future__ import annotations

from importlib.util import find_spec

from bench.system.errors import BadArgument

ONNX = ("onnx", "onnxscript")
EXTRA = "it comes with the extra [deploy]: pip install '.[deploy]' in the clone"


def require(packages: tuple[str, ...], argument: str, value: str) -> None:
    """BadArgument for the argument's value if one of the packages that it needs is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise BadArgument(argument, value, f"{missing[0]} is not installed; {EXTRA}")
