"""Which code a method is made of, so that records of changed code are not mistaken for today's."""

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

    Only what can change behaviour counts: no comments, docstrings, layout, or descriptions of options. A method whose
    code was edited makes new trials, while its old records stay those of other trials. `unknown` without source code.
    """
    try:
        sources = [inspect.getsource(module) for module in _modules(method)]
        texts = [code(source) for source in sources or [textwrap.dedent(inspect.getsource(method))]]
    except (OSError, TypeError, SyntaxError):
        return "unknown"
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()[:8]


def code(source: str) -> str:
    """The syntax tree of a source as text, without strings that do nothing; the same in every version of Python."""
    return _written(_WithoutProse().visit(ast.parse(source)))


class _WithoutProse(ast.NodeTransformer):
    """Removes what is written for a reader alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A statement that is only a string is a docstring, of a module, a class, a function or an attribute."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Strings in `Annotated[int, Ge(1), "centroids"]`, behind the type, describe an option."""
        if _name(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple) and node.slice.elts:
            first, *rest = node.slice.elts
            node.slice.elts = [first, *(each for each in rest if not _is_text(each))]
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _written(node: Any) -> str:
    """`ast.dump` differs between versions of Python in which empty fields it writes; here none is written."""
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{name}={_written(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({','.join(fields)})"


def _modules(method: type[Method]) -> list[ModuleType]:
    """The method's module, and those beside it that begin with an underscore and that it imports from."""
    own = inspect.getmodule(method)
    if own is None:
        return []
    beside = f"{own.__name__.rpartition('.')[0]}._"
    names = {getattr(item, "__module__", None) or "" for item in vars(own).values()}
    return [own, *(sys.modules[name] for name in sorted(names) if name.startswith(beside) and name in sys.modules)]
