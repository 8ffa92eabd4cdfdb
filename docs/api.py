"""Write the API reference, one page made from the docstrings: python docs/api.py [FOLDER]"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

import pdoc
from torch import nn

import bench

ROOT = Path(bench.__file__).parent


def homes() -> dict[str, str]:
    """The module in which each public name is defined, from the stub of `bench`."""
    stub = (ROOT / "__init__.pyi").read_text(encoding="utf-8")
    return {name: f"bench{home}" for home, name in re.findall(r"^from (\S+) import \w+ as (\w+)$", stub, re.MULTILINE)}


def documented() -> pdoc.doc.Module:
    """Everything that `bench` makes public, in the order of its docstring."""
    for name in bench.__all__:  # imported on first use, which pdoc does not wait for
        vars(bench).setdefault(name, getattr(bench, name))
    page = pdoc.doc.Module(bench)
    order = re.findall(r"`(\w+)`", bench.__doc__ or "")
    members = sorted(page.members.items(), key=lambda item: order.index(item[0]))
    page.members.clear()
    page.members.update(members)
    for name, member in members:
        if isinstance(member, pdoc.doc.Class):
            keep_explained(member)
        elif isinstance(member, pdoc.doc.Variable):
            explain(member, homes()[name])
    return page


def explain(alias: pdoc.doc.Variable, home: str) -> None:
    """Give another name for a type its docstring, which stands in the module that defines it."""
    alias.docstring = pdoc.doc.Module(importlib.import_module(home)).members[alias.name].docstring
    if "func=" in repr(alias.default_value):  # how it is checked says nothing to a reader
        alias.default_value = pdoc.doc.empty


def keep_explained(kind: pdoc.doc.Class) -> None:
    """Keep what has a docstring of its own, and the constructor of a class that its users make."""
    made = kind.name not in ("Method", "Dataset", "Lab", "Encoding", "SettingText")
    for name, member in list(kind.members.items()):
        if name == "__init__" and made and member.taken_from[0].startswith("bench"):
            member.docstring = "" if member.docstring == nn.Module.__init__.__doc__ else member.docstring
        elif member.docstring in ("", *(inspect.getdoc(vars(base).get(name)) for base in kind.obj.__mro__[1:])):
            del kind.members[name]


def write(folder: Path) -> Path:
    """Write the page; returns its path."""
    pdoc.render.configure(docformat="markdown", show_source=False, search=False)
    page = documented()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.html"
    text = pdoc.render.html_module(page, all_modules={"bench": page})
    path.write_text(re.sub(r"(\*\*more): \*&lt;class .*?&gt;", r"\1", text), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else "site/api")))
