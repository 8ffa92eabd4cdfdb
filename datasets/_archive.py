"""Image trees in archives: .tar (plain, .gz, .xz, .bz2) and .zip, unpacked once into the cache.

An archive may be untrusted. Only regular files with an image's extension are written, only below the target folder, and
only as many bytes as `Limits` allows. Other files are counted, so that a reader of results can be told.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bench_datasets._tree import LEFT_OUT, is_hidden, is_image, left_out_as

from bench import BenchError, bar, cache_dir

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, RuntimeError, ValueError)
MEGABYTE = 1_000_000
CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to. Images hardly shrink when they are compressed, so a zip bomb stands out."""

    ratio: int = 100
    """Bytes unpacked for each byte of the archive, above `least`."""
    least: int = 1_000_000_000
    """Bytes that any archive may unpack to."""
    files: int = 20_000_000
    entries: int = 40_000_000
    """Files, folders, links and others, whether they are unpacked or not."""
    header: int = 1_000_000
    """Bytes of an extended header (a long name, say), which is read into memory before the file that it belongs to."""

    def bytes_of(self, archive: int, free: int) -> int:
        """The most bytes that an archive of `archive` bytes may unpack to, on a disk with `free` bytes left."""
        return min(max(self.least, self.ratio * archive), free)


LIMITS = Limits()


def stem(path: Path) -> str:
    """The name without an archive's suffix: `cifar10-jpeg` for `cifar10-jpeg.tar.xz`."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :])


def unpacked(path: Path) -> Path:
    """The folder of the cache with the archive's images, which is complete or not there at all.

    An archive is recognised by its name, size and time of change, so that one of many gigabytes is not read again.
    Raises BenchError for a file that is not an archive, is cut short, writes outside its folder or unpacks to too much.
    """
    status = path.stat()
    key = hashlib.sha256(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape"))
    folder = cache_dir() / "unpacked" / f"{stem(path)}-{key.hexdigest()[:16]}"
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
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BenchError(f"archive {path} cannot be unpacked: {reason}") from error
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster, and its folder is used
            raise BenchError(f"archive {path} cannot be unpacked into {folder.parent}: {error}") from error
    return folder


def unpack(path: Path, into: Path) -> None:
    """Write the archive's images below `into`, and beside them how many other files were left out, by kind."""
    size = path.stat().st_size
    left = LIMITS.bytes_of(size, shutil.disk_usage(into).free)
    left_out: Counter[str] = Counter()
    done, files = 0, 0
    with path.open("rb") as raw, bar(f"unpacking {path.name} (MB)", size // MEGABYTE) as advance:
        for name, content in contents(raw, left_out):
            target = os.path.join(into, inside(name))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                left -= write(content, file, left)
            files += 1
            if files > LIMITS.files:
                raise tarfile.ReadError(f"it holds more than {LIMITS.files:,} images")
            now = raw.tell() // MEGABYTE
            advance(max(0, now - done))
            done = max(done, now)
    (into / LEFT_OUT).write_text(json.dumps(dict(sorted(left_out.items()))))


def write(content: IO[bytes], file: IO[bytes], most: int) -> int:
    """Copy, and return the number of bytes; ReadError if it would be more than `most`."""
    written = 0
    while chunk := content.read(CHUNK):
        written += len(chunk)
        if written > most:
            raise tarfile.ReadError("it unpacks to more than its size allows, or than the disk has room for")
        file.write(chunk)
    return written


def contents(raw: IO[bytes], left_out: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every image in an archive, in its order; other files are counted in `left_out` by kind."""
    if not is_tar(raw) and zipfile.is_zipfile(raw):
        try:
            archive = zipfile.ZipFile(raw)
        except UnicodeDecodeError as error:
            raise zipfile.BadZipFile("a name in it is marked as UTF-8 and is not") from error
        with archive:
            yield from zip_contents(archive, left_out)
        return
    raw.seek(0)
    with open_tar(raw) as tar:
        yield from tar_contents(tar, left_out)
        # A compressed stream knows its end; if a plain one is cut between two files, tarfile just stops.
        if tar.fileobj is raw and not ends_in_zeros(raw):
            raise tarfile.ReadError("unexpected end of data")


def is_tar(raw: IO[bytes]) -> bool:
    """Whether it begins as a plain tar file. Such a file may look like a zip file if its last content is one."""
    raw.seek(257)
    magic = raw.read(5)
    raw.seek(0)
    return magic == b"ustar"


def check_count(entries: int) -> None:
    if entries > LIMITS.entries:
        raise tarfile.ReadError(f"it has more than {LIMITS.entries:,} entries")


class BoundedInfo(tarfile.TarInfo):
    """An entry whose extended headers are not read into memory if they are too large."""

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        return super()._proc_pax(checked_header(self, tar))  # type: ignore[misc]

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        return super()._proc_gnulong(checked_header(self, tar))  # type: ignore[misc]


def checked_header(info: tarfile.TarInfo, tar: tarfile.TarFile) -> tarfile.TarFile:
    if info.size > LIMITS.header:  # no ReadError, after which tarfile would try the next compression
        raise ValueError(f"a header in it has {info.size:,} bytes, expected at most {LIMITS.header:,}")
    return tar


def zip_contents(archive: zipfile.ZipFile, left_out: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    check_count(len(archive.infolist()))
    for entry in archive.infolist():
        if entry.flag_bits & 1:
            raise zipfile.BadZipFile(f"{entry.filename!r} is encrypted")
        name = PurePosixPath(entry.filename).name
        if entry.is_dir() or is_hidden(entry.filename):
            continue
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            left_out["link"] += 1
        elif not is_image(name):
            left_out[left_out_as(name)] += 1
        else:
            with archive.open(entry) as content:
                yield entry.filename, content


def tar_contents(tar: tarfile.TarFile, left_out: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """A link is read as the file it leads to; one that leads nowhere, or out of the archive, is left out."""
    for count, member in enumerate(tar, 1):
        check_count(count)
        if member.size < 0:  # tarfile would go back and read the same header for ever
            raise tarfile.ReadError(f"the size of {member.name!r} is negative")
        name = PurePosixPath(member.name).name
        if member.isdir() or is_hidden(member.name):
            continue
        if not is_image(name):
            left_out["link" if member.issym() else left_out_as(name)] += 1
            continue
        content = linked(tar, member) if member.issym() or member.islnk() else member
        if content is None or not content.isfile():
            left_out["link" if content is None else "device"] += 1
            continue
        reader = tar.extractfile(content)
        assert reader is not None  # it is a regular file
        yield member.name, reader


def linked(tar: tarfile.TarFile, link: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The regular file that a link leads to within the archive; None where there is none."""
    seen = {link.name}
    member = link
    while member.issym() or member.islnk():
        target = member.linkname
        if member.issym():
            target = os.path.normpath(os.path.join(os.path.dirname(member.name), target))
        if target in seen:
            return None
        seen.add(target)
        try:
            member = tar.getmember(target)
        except KeyError:
            return None
    return member if member.isfile() else None


def open_tar(raw: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=raw, tarinfo=BoundedInfo)
    except tarfile.ReadError as error:  # which lists, line by line, how each compression failed
        raise tarfile.ReadError(f"it is none of {', '.join(SUFFIXES)}") from error


def ends_in_zeros(raw: IO[bytes]) -> bool:
    """Whether the last block is empty, as in every complete tar file."""
    raw.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
    return not any(raw.read())


def inside(name: str) -> str:
    """The name, which must lie inside the archive's folder."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise tarfile.ReadError(f"it holds {name!r}, which lies outside it")
    return name
