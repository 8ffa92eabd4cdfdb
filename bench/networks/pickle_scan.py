"""What the pickle in a file of `torch.save` holds, found by reading its opcodes: nothing in it is run or built."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST_PICKLE = 100_000_000
"""Bytes of a pickle that is scanned, at most; tensors are stored beside it, so real ones have a few hundred kB."""
DEEPEST = 20
"""Keys that are followed into nested dictionaries, at most; a dictionary may contain itself."""
MARK = "MARK"
INTO_DICT = ("SETITEM", "SETITEMS")
INTO_BELOW = (*INTO_DICT, "APPEND", "APPENDS", "ADDITEMS", "BUILD")
"""Opcodes that put the objects on top of the stack into the one below."""


@dataclass(eq=False)
class Part:
    """One object of a pickle: a name such as `argparse.Namespace`, a literal, or a container of other parts."""

    opcode: str
    value: Any = None
    parts: list[Part] = field(default_factory=list)
    items: list[tuple[Any, Part]] = field(default_factory=list)
    """Of a dictionary: its keys and what they stand for."""

    def walk(self) -> Iterator[Part]:
        """This part and all below it, each once."""
        seen, todo = set[int](), [self]
        while todo:
            part = todo.pop()
            if id(part) not in seen:
                seen.add(id(part))
                todo += part.parts
                yield part

    def holds(self, names: Collection[str]) -> bool:
        return any(part.opcode == "GLOBAL" and part.value in names for part in self.walk())


def scan(path: Path) -> Part | None:
    """The object that a file of `torch.save` holds; None for other files, older formats and damaged ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            (entry,) = (entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl"))
            return _replayed(archive.read(entry)) if entry.file_size <= LARGEST_PICKLE else None
    except Exception:  # a damaged file may raise anything, and a scan only serves a better message
        return None


def paths_to(root: Part, names: Collection[str]) -> list[tuple[Any, ...]]:
    """The keys that lead through dictionaries to each object that needs one of these names; none for the root."""
    paths: list[tuple[Any, ...]] = []
    todo: list[tuple[tuple[Any, ...], Part]] = [((), root)]
    while todo:
        keys, part = todo.pop(0)
        inside = [((*keys, key), value) for key, value in part.items if value.holds(names)]
        if inside and len(keys) < DEEPEST:
            todo += inside
        elif keys:
            paths.append(keys)
    return paths


def _replayed(content: bytes) -> Part:
    """Follow what each opcode does to the stack and the memo; each object that it would build becomes a Part."""
    stack: list[Part] = []
    memo: dict[Any, Part] = {}
    for opcode, value, _ in pickletools.genops(content):
        name = opcode.name
        if name == "STOP":
            break
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if value is None else value] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name in INTO_BELOW:
            taken = _popped(stack, opcode)
            _put_into(stack[-1], taken, name in INTO_DICT)
        else:
            taken = _popped(stack, opcode)
            label = str(value).replace(" ", ".") if name == "GLOBAL" else value
            stack += [Part(name, label, taken) for _ in opcode.stack_after]
    return stack[-1]


def _popped(stack: list[Part], opcode: pickletools.OpcodeInfo) -> list[Part]:
    """The operands of an opcode, taken from the stack; the container that it only changes stays there."""
    if pickletools.markobject not in opcode.stack_before:
        count = len(opcode.stack_before) - (opcode.name in INTO_BELOW)
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken
    mark = max(index for index, part in enumerate(stack) if part.opcode == MARK)
    taken = stack[mark + 1 :]
    del stack[mark:]
    return taken


def _put_into(container: Part, taken: list[Part], pairs: bool) -> None:
    container.parts += taken
    if pairs:
        container.items += [(key.value, value) for key, value in zip(taken[::2], taken[1::2], strict=True)]
