"""A backup file: a tar archive of ``database.dump`` (pg_dump, custom format) and ``manifest.json``.

Both are written in one pass and read in one pass, so that a backup never needs its size twice on disk. The manifest
comes last: a file without one was cut off. The file holds patient data; it is readable by its owner only.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

FORMAT: Final = 1
DUMP, MANIFEST = "database.dump", "manifest.json"
CHUNK: Final = 1 << 20
MAX_MANIFEST: Final = 4 << 20
_BLOCK: Final = tarfile.BLOCKSIZE


class BackupError(RuntimeError):
    """A backup can't be made or restored; the text names the value, what is allowed and the next step."""


class Position(msgspec.Struct, frozen=True):
    """How far one partition's effects are in the backup."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: where it came from, how far it goes, and what must be there after a restore."""

    format: int
    made_at: str  # RFC 3339, UTC
    code: str  # version of Keepwell
    revision: str  # of the schema
    postgres: int  # server_version_num
    timescaledb: str
    owner: str  # the role that owns the schema
    prefix: str  # of the topics the positions belong to
    horizon: int  # no alert event of this backup has a place in the stream at or above it
    positions: list[Position]
    counts: dict[str, int]  # table → rows
    dump_bytes: int
    dump_sha256: str


class Writer:
    """Writes a backup beside its place; it takes the place only when whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._partial = file.with_name(file.name + ".part")

    def write(self, dump: IO[bytes], describe: Callable[[int, str], Manifest], told: Callable[[int], None]) -> Manifest:
        """Copy the dump to its end, then add what ``describe(bytes, sha256)`` says of it.

        ``told`` is called with the bytes written so far. Whatever is raised leaves no file behind.
        """
        try:
            with open(self._partial, "xb", opener=_private) as sink:
                sink.write(bytes(_BLOCK))  # the head comes when the length is known
                size, digest = _copy(dump, sink, told)
                _pad(sink, size)
                manifest = describe(size, digest)
                body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
                sink.write(_head(MANIFEST, len(body)) + body)
                _pad(sink, len(body))
                sink.write(bytes(2 * _BLOCK))
                sink.seek(0)
                sink.write(_head(DUMP, size))
                sink.flush()
                os.fsync(sink.fileno())
            self._partial.rename(self._file)
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise
        return manifest


def read(file: Path, told: Callable[[int], None]) -> Manifest:
    """Return the manifest of a backup after comparing all of the file with it; ``told`` counts the bytes.

    Raises:
        BackupError: not a backup, cut off, damaged, or of a later format.
    """
    try:
        with tarfile.open(file, "r:") as archive:
            members = archive.getnames()
            if members != [DUMP, MANIFEST]:
                msg = f"{file} holds {members or 'nothing'}, not [{DUMP}, {MANIFEST}]: it is cut off or no backup; "
                raise BackupError(msg + "take another file")
            manifest = _manifest(file, archive)
            size, digest = _copy(_member(archive, DUMP), None, told)
    except (tarfile.TarError, OSError, EOFError) as error:
        msg = f"{file} can't be read as a backup ({error}); take another file, made by `keepwell backup`"
        raise BackupError(msg) from error
    if (size, digest) != (manifest.dump_bytes, manifest.dump_sha256):
        msg = f"{file} is damaged: SHA-256 {digest} of {size} bytes, {manifest.dump_sha256} was written; take another"
        raise BackupError(msg)
    return manifest


def chunks(file: Path) -> Iterator[bytes]:
    """Yield the dump inside a backup."""
    with tarfile.open(file, "r:") as archive:
        source = _member(archive, DUMP)
        while chunk := source.read(CHUNK):
            yield chunk


def _manifest(file: Path, archive: tarfile.TarFile) -> Manifest:
    body = _member(archive, MANIFEST).read(MAX_MANIFEST)
    try:
        known = msgspec.json.decode(body)
        if isinstance(known, dict) and known.get("format", 0) > FORMAT:
            msg = f"{file} has format {known['format']}, this Keepwell knows {FORMAT}; use the Keepwell that made it"
            raise BackupError(msg)
        return msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, TypeError) as error:
        msg = f"{file} is damaged: its manifest can't be read ({error}); take another"
        raise BackupError(msg) from error


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    return archive.extractfile(name) or io.BytesIO()


def _copy(source: IO[bytes], sink: IO[bytes] | None, told: Callable[[int], None]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if sink is not None:
            sink.write(chunk)
        told(size)
    return size, digest.hexdigest()


def _head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry.tobuf(tarfile.GNU_FORMAT)


def _pad(sink: IO[bytes], size: int) -> None:
    sink.write(bytes(-size % _BLOCK))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
