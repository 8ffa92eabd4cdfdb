"""Image trees in archives: .tar (plain, .gz, .xz, .bz2) and .zip, unpacked once into the cache."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from bench_datasets._tree import is_image

from bench import BenchError, bar, cache_dir

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, RuntimeError)
MEGABYTE = 1_000_000


def stem(path: Path) -> str:
    """The name without an archive's suffix: `cifar10-jpeg` for `cifar10-jpeg.tar.xz`."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :])


def unpacked(path: Path) -> Path:
    """The folder of the cache with the archive's images, which is whole or not there at all.

    An archive is known by its name, size and time of change, so that one of many gigabytes need not be read again.
    BenchError for a file that is no archive, is cut short or would write outside its folder.
    """
    status = path.stat()
    key = hashlib.sha256(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_dir() / "unpacked" / f"{stem(path)}-{key}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
            whole = Path(partial) / "whole"
            whole.mkdir()
            unpack(path, whole)
            whole.rename(folder)
    except BROKEN as error:
        raise BenchError(f"archive {path} cannot be unpacked: {error or type(error).__name__}") from error
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, and its folder will do
            raise BenchError(f"archive {path} cannot be unpacked into {folder.parent}: {error}") from error
    return folder


def unpack(path: Path, into: Path) -> None:
    """Write the archive's images below `into`.

    Nothing but regular image files is written, and only below `into`: what tarfile's data filter would see to, in
    zip files and on a Python that has no such filter as well.
    """
    done, made = 0, set()
    with path.open("rb") as raw, bar(f"unpacking {path.name} (MB)", path.stat().st_size // MEGABYTE) as advance:
        for name, content in contents(raw):
            folder, file = os.path.split(os.path.join(into, safe(name)))
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            with open(os.path.join(folder, file), "wb") as target:
                target.write(content.read())
            if (now := raw.tell() // MEGABYTE) > done:
                advance(now - done)
                done = now


def contents(raw: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every image in an archive, in its order."""
    if zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as archive:
            for entry in archive.infolist():
                if is_image(PurePosixPath(entry.filename).name) and not entry.is_dir():
                    with archive.open(entry) as content:
                        yield entry.filename, content
        return
    raw.seek(0)
    with open_tar(raw) as tar:
        for member in tar:
            if not is_image(PurePosixPath(member.name).name) or not (member.isfile() or member.islnk()):
                continue
            if (found := tar.extractfile(member)) is not None:
                yield member.name, found
        # A compressed stream knows its end; where a plain one is cut between two files, tarfile just stops.
        if tar.fileobj is raw and not ends_in_zeros(raw):
            raise tarfile.ReadError("unexpected end of data")


def open_tar(raw: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=raw)
    except tarfile.ReadError as error:  # which lists, line by line, how each compression failed
        raise tarfile.ReadError(f"it is none of {', '.join(SUFFIXES)}") from error


def ends_in_zeros(raw: IO[bytes]) -> bool:
    """Whether the last block is empty, as in every whole tar file."""
    raw.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
    return not any(raw.read())


def safe(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise tarfile.ReadError(f"it holds '{name}', which lies outside it")
    return name
