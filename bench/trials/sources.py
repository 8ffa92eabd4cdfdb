"""A digest of a method's source code, so that records of earlier code are not reused."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from types import ModuleType
from typing import Any

from bench.plugins.method import Method


def source_digest(method: type[Method]) -> str:
    """SHA-256 (8 hex digits) of the code in a method's file, and in the files beside it that it shares with others.

    Comments, docstrings, layout and descriptions of options do not count, because they cannot change behaviour. Edited
    code gives other fingerprints, so earlier records are kept but not reused. `unknown` without source code.
    """
    try:
        sources = [inspect.getsource(module) for module in _modules(method)]
        texts = [code(source) for source in sources or [textwrap.dedent(inspect.getsource(method))]]
    except (OSError, TypeError, SyntaxError):
        return "unknown"
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:8]


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
    """The method's module, and the modules beside it that it imports from and that begin with an underscore."""
    own = inspect.getmodule(method)
    if own is None:
        return []
    beside = f"{own.__name__.rpartition('.')[0]}._"
    names = {getattr(item, "__module__", None) or "" for item in vars(own).values()}
    return [own, *(sys.modules[name] for name in sorted(names) if name.startswith(beside) and name in sys.modules)]
