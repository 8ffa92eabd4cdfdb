"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.system.errors import BadArgument


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file, then rename it to `path`: nobody ever sees half a file, even if a run is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def check_place(path: Path, argument: str, *, folder: bool = False) -> None:
    """BadArgument if `path` cannot become a file, or a `folder` of files. Call it before hours of work."""
    parent = path if folder else path.parent
    try:
        if path.exists() and path.is_dir() != folder:
            raise BadArgument(argument, path, "a file; expected a folder" if folder else "a folder; expected a file")
        made = [place for place in (parent, *parent.parents) if not place.exists()]
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
        for place in made:
            place.rmdir()
    except OSError as error:
        raise BadArgument(argument, path, f"{error.strerror}; choose another place") from error


def write_if_new(path: Path, content: bytes) -> None:
    """Write, unless the file already holds this content, as most of a page's files do when it is built again."""
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    path.write_bytes(content)
