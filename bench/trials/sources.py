"""Digests of the source code of methods and of networks, so that records of earlier code are not reused."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from functools import cache, lru_cache
from importlib import resources
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import nn

from bench.networks.structure import structure_digest
from bench.plugins.method import Method

PROPOSING = ("finishes", "searched", "style")
"""Attributes of a method that `bench find` and the board read, and `compress` does not."""
TRAINING = ("clustering", "data", "encodings", "isolation", "networks", "plugins", "pruning", "training")
"""The packages whose code takes part in compressing and training."""


def source_digest(method: type[Method]) -> str:
    """SHA-256 (8 hex digits) of the code in a method's file, and in the shared files beside it that it imports.

    Comments, docstrings, layout and descriptions of options do not count, because they cannot change behaviour. If the
    code is edited, fingerprints change, so earlier records are kept but not reused. `unknown` if there is no source.
    """
    try:
        sources = [inspect.getsource(module) for module in _modules(method)]
        texts = [code(source) for source in sources or [textwrap.dedent(inspect.getsource(method))]]
    except (OSError, TypeError, SyntaxError):
        return "unknown"
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:8]


@cache
def harness_digest() -> str:
    """SHA-256 (16 hex digits) of the code of the harness that decides what a training comes to."""
    digest = hashlib.sha256()
    for package in TRAINING:
        files = (file for file in (resources.files("bench") / package).iterdir() if file.name.endswith(".py"))
        for file in sorted(files, key=lambda file: file.name):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=256)
def code(source: str) -> str:
    """The syntax tree of a source as text, without docstrings; the same in every version of Python."""
    return _written(_WithoutProse().visit(ast.parse(source)))


class _WithoutProse(ast.NodeTransformer):
    """Removes docstrings and descriptions."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A statement that is only a string is the docstring of a module, class, function or attribute."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """Declarations for a search or a picture cannot change what a setting does."""
        if all(getattr(target, "id", "") in PROPOSING for target in node.targets):
            return None
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Strings after the type in `Annotated[int, Ge(1), "centroids"]` describe an option."""
        if _name(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple) and node.slice.elts:
            first, *rest = node.slice.elts
            node.slice.elts = [first, *(each for each in rest if not _is_text(each))]
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _written(node: Any) -> str:
    """Like `ast.dump`, without empty fields: which of them `ast.dump` writes differs between versions of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{name}={_written(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({','.join(fields)})"


def _modules(method: type[Method]) -> list[ModuleType]:
    """The method's module, and the modules in the same folder that it imports and whose names begin with `_`."""
    own = inspect.getmodule(method)
    if own is None:
        return []
    beside = f"{own.__name__.rpartition('.')[0]}._"
    names = {getattr(item, "__module__", None) or "" for item in vars(own).values()}
    return [own, *(sys.modules[name] for name in sorted(names) if name.startswith(beside) and name in sys.modules)]


def network_digest(model: nn.Module) -> str:
    """SHA-256 (16 hex digits) of the structure of a user's own network and of the code that it runs.

    The code includes the file of every class in the network, and the files in the same folder or package that these
    import at the top. For installed packages, the version stands for the code. Weights do not count; they have their
    own digest.
    """
    parts = [structure_digest(model), *sorted({_code_of(type(module)) for module in model.modules()})]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def _code_of(kind: type) -> str:
    if kind.__module__.partition(".")[0] == "torch":
        return ""
    module = sys.modules.get(kind.__module__)
    if module is None or not getattr(module, "__file__", None):
        return _code_of_class(kind)  # of a notebook, or typed at a prompt
    if _is_installed(Path(str(module.__file__))):
        return f"{kind.__module__} {_version(kind.__module__)}"
    return "\n".join(sorted(map(_source, _near(module))))


def _code_of_class(kind: type) -> str:
    """The code of a class without a file: its source if Python has kept it, else the bytecode of its methods."""
    try:
        return code(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        functions = [item for item in vars(kind).values() if inspect.isfunction(item)]
        return repr([_instructions(function.__code__) for function in functions])


def _instructions(body: CodeType) -> tuple[Any, ...]:
    constants = [_instructions(each) if isinstance(each, CodeType) else each for each in body.co_consts]
    return body.co_name, body.co_code.hex(), body.co_names, repr(constants)


def _source(module: ModuleType) -> str:
    try:
        return code(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return module.__name__


def _is_installed(file: Path) -> bool:
    """Whether a file belongs to an installed package, and not to a working copy."""
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    return any(file.resolve().is_relative_to(place) for place in places)


def _version(module: str) -> str:
    names = packages_distributions().get(module.partition(".")[0], [])
    return ", ".join(f"{name} {version(name)}" for name in sorted(set(names)))


def _near(module: ModuleType) -> list[ModuleType]:
    """A module, and the modules that it imports, directly or indirectly, from its own folder or package."""
    folder = Path(str(module.__file__)).resolve().parent
    top = module.__name__.partition(".")[0]
    near, todo = {module.__name__: module}, [module]
    while todo:
        for item in vars(todo.pop()).values():
            owner = item if isinstance(item, ModuleType) else sys.modules.get(str(getattr(item, "__module__", "")))
            if owner is None or owner.__name__ in near or not (file := getattr(owner, "__file__", None)):
                continue
            beside = Path(file).resolve().is_relative_to(folder) and not _is_installed(Path(file))
            if beside or owner.__name__.partition(".")[0] == top:
                near[owner.__name__] = owner
                todo.append(owner)
    return list(near.values())
