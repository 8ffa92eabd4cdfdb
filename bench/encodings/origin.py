"""Which installed package an encoding comes from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version

from bench.encodings.base import Encoding
from bench.encodings.manifest import Package
from bench.system.errors import BenchError


def package_of(kind: type[Encoding]) -> Package | None:
    """The distribution that an encoding comes from; None for this project's, and for one of no installed package."""
    module = kind.__module__.partition(".")[0]
    if module == __name__.partition(".")[0]:
        return None
    for point in entry_points(group="bench.methods"):  # an editable install lists no files, but its entry points
        if point.module.partition(".")[0] == module and point.dist is not None:
            return Package(name=point.dist.name, version=point.dist.version)
    names = packages_distributions().get(module)
    return Package(name=names[0], version=version(names[0])) if names else None


def find_encoding(kind: str, package: Package | None) -> type[Encoding]:
    """The encoding of that kind; plugins are loaded if necessary. BenchError if there is none."""
    if kind not in Encoding.kinds:
        from bench.plugins.registry import methods

        methods()
    if kind not in Encoding.kinds:
        raise BenchError(_missing(kind, package))
    return Encoding.kinds[kind]


def _missing(kind: str, package: Package | None) -> str:
    if package is None:
        return f"no installed package has an encoding called {kind!r}"
    came = f"the encoding {kind!r} came from package {package.name} version {package.version}"
    try:
        installed = version(package.name)
    except PackageNotFoundError:
        return f"{came}, which is not installed"
    return f"{came}; the installed version {installed} has no such encoding"
