"""The YAML of a suite, read within limits, with the line number of each value.

A file of 300 bytes can expand to a billion values, because an alias repeats the value that it names. Values are
therefore counted while the file is parsed, before any object is built.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.system.errors import BenchError
from bench.system.text import shown

LARGEST = 1_000_000
"""Bytes of a file, at most."""
MOST_VALUES = 5_000
"""Names and values in a file, at most, including those that aliases repeat."""
DEEPEST = 20
"""Nested lists and mappings, at most."""
LONGEST_NUMBER = 40
"""Characters of a number, at most."""
_REFUSED = (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError)
"""Exceptions that PyYAML passes on if a value does not fit its tag, such as the date 2001-99-01."""
SYNTAX = (yaml.scanner.ScannerError, yaml.parser.ParserError)

Place = tuple[int | str, ...]


class SuiteFile:
    """The content of a YAML file, and the line of each part of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        loader = None
        try:
            loader = _Loader(self._text())
            self.root = loader.get_single_node()
            self.content = loader.construct_document(self.root) if self.root else None
        except yaml.MarkedYAMLError as error:
            hint = "; text with : # { } [ ] in it needs quotes" if isinstance(error, SYNTAX) else ""
            raise self._error(f"{_first_line(error.problem)}{hint}", error.problem_mark) from None
        except (yaml.YAMLError, RecursionError, *_REFUSED) as error:
            raise self._error(
                f"cannot be read as YAML ({_first_line(error)})", loader.get_mark() if loader else None
            ) from None
        if not isinstance(self.content, dict):
            raise self._error("not a suite; expected a mapping with 'runs:', a list of runs")

    def place(self, place: Place) -> str:
        """`suite FILE, line N`, with the line of the deepest part of `place` that the file has."""
        node, line = self.root, 0
        for step in place:
            entry = next(((key, value) for key, value in _entries(node) if key.value == step), None)
            if entry:
                line, node = entry[0].start_mark.line, entry[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
        return f"suite {self.path}, line {line + 1}"

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except OSError as error:
            raise self._error(f"cannot be read ({error.strerror})") from None
        if len(content) > LARGEST:
            raise self._error(f"larger than {LARGEST:,} bytes, the most that is read")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self._error(f"line {line} is not UTF-8") from None
        if odd := yaml.reader.Reader.NON_PRINTABLE.search(text):
            line = text.count("\n", 0, odd.start()) + 1
            raise self._error(f"{shown(odd.group())} in line {line} is a character that YAML does not allow")
        return text

    def _error(self, problem: str, mark: yaml.Mark | None = None) -> BenchError:
        line = f", line {mark.line + 1}" if mark else ""
        return BenchError(f"suite {self.path}{line}: {problem}")


class _Loader(yaml.SafeLoader):
    """Counts values while it parses, and refuses files that are too large or too deep, or that contain themselves.

    It refuses repeated keys too, as YAML demands; PyYAML keeps the last one.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = 0
        self.open: list[str | None] = []
        """The anchors of the lists and mappings around the current value."""
        self.sizes: dict[str, int] = {}
        """The number of values that each anchor names."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, before = event.anchor, self.values
        if self.check_event(yaml.AliasEvent):
            if anchor in self.open:
                raise _refusal(f"'*{anchor}' is inside the value that it names", event)
            self.values += self.sizes.get(anchor, 0)
        self.values += 1
        if self.values > MOST_VALUES:
            raise _refusal(f"more than {MOST_VALUES:,} values, with those that aliases (*name) repeat", event)
        if len(self.open) > DEEPEST:
            raise _refusal(f"more than {DEEPEST} nested lists or mappings", event)
        self.open.append(None if isinstance(event, yaml.AliasEvent) else anchor)
        node = super().compose_node(parent, index)
        self.open.pop()
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.sizes[anchor] = self.values - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > LONGEST_NUMBER:
            raise _refusal(f"a number of {len(node.value):,} characters; at most {LONGEST_NUMBER} are read", node)
        try:
            return super().construct_object(node, deep)
        except _REFUSED as error:
            raise _refusal(f"{shown(node.value)} is not a valid {kind} ({_first_line(error)})", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in _entries(node) if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _refusal(f"{shown(key.value)} is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refusal(problem: str, where: Any) -> yaml.MarkedYAMLError:
    """`where` is an event or a node."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def _first_line(problem: object) -> str:
    lines = str(problem).splitlines()
    return re.sub(r"\s+", " ", lines[0]) if lines else type(problem).__name__


def _entries(node: yaml.Node | None) -> Iterable[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []
