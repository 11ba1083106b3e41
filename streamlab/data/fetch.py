"""Downloads: from a set's official address, checked, and resumed where it was cut.

Nothing here is called unless a person asks for it (`streamlab data fetch`).
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from ..errors import CorruptFile, StreamlabError
from .progress import Progress

_CHUNK = 1 << 18
_PATIENCE_SECONDS = 30
_WINDOW_SECONDS, _LEAST_RATE = 60.0, 1024  # what a server sends, bytes a second
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)
"""What zipfile, tarfile and what they decompress by raise where an archive is not as it was packed."""

_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENDLESS = 64 << 30  # bytes of what does not say how long it is


@dataclass(frozen=True)
class Download:
    """One file of a published set: its official address and MD5 there.

    unpack: names of a tar archive's members that are wanted; they are written beside it, and the
    archive is removed. A zip archive is written whole, without its top folder; these are its last.
    """

    url: str
    md5: str
    unpack: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file's name."""
        return PurePosixPath(self.url).name


def fetch(download: Download, folder: Path, progress: Progress) -> None:
    """Have the file in `folder`, whole and checked, and unpacked where it is an archive.

    A partial file (`.part`) is gone on with. `progress(file, bytes so far, bytes in all)`. Raises
    StreamlabError where the address does not answer (what came is kept), CorruptFile where the
    checksum is wrong.
    """
    target = folder / download.file
    if download.unpack and all((folder / name).is_file() for name in download.unpack):
        return
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        _receive(download.url, part, lambda done, size: progress(download.file, done, size))
        try:
            check_md5(part, download.md5)
        except CorruptFile:
            part.unlink()
            raise
        part.replace(target)
    else:
        check_md5(target, download.md5)
    if download.unpack:
        (unpack_zip if target.suffix == ".zip" else unpack)(target, download.unpack, folder)
        target.unlink()


def check_md5(path: Path, expected: str) -> None:
    """Raise CorruptFile where the file's MD5 is not the published one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != expected:
        name = path.name.removesuffix(".part")
        raise CorruptFile(f"{path.with_name(name)}: its MD5 is {found}, and should be {expected}")


def unpack_zip(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Write a zip archive's files into `folder`, without the folder that all of them are in; `names` at last.

    Raises CorruptFile where the archive is damaged, lacks one of the names, or would write elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            files = {PurePosixPath(one.filename): one for one in content.infolist() if not one.is_dir()}
            inside = {PurePosixPath(*path.parts[1:]): one for path, one in files.items()}
            for path, one in inside.items():
                if path.is_absolute() or ".." in path.parts:
                    raise CorruptFile(f"{archive} would write outside of its folder: {path}")
                if not path.name or one.flag_bits & 1 or one.compress_type not in _PACKED:
                    raise CorruptFile(f"{archive}: {one.filename!r} has no name, or cannot be unpacked")
            last = [PurePosixPath(name) for name in names]
            for path in [*(path for path in inside if path not in last), *last]:
                if path not in inside:
                    raise CorruptFile(f"{archive} holds no {path}")
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                part = folder / path.with_name(path.name + ".part")
                with content.open(inside[path]) as packed, part.open("wb") as file:
                    shutil.copyfileobj(packed, file)
                part.replace(folder / path)
    except _DAMAGED as error:
        raise CorruptFile(f"{archive} cannot be unpacked: {error}") from None


def unpack(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Write the archive's regular files of these names into `folder`, whatever folder they are in.

    Raises CorruptFile where the archive is damaged or lacks one.
    """
    missing = set(names)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if name in missing and member.isreg() else None
                if content is not None:
                    part = folder / f"{name}.part"
                    with part.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    part.replace(folder / name)
                    missing.discard(name)
    except _DAMAGED as error:
        raise CorruptFile(f"{archive} cannot be unpacked: {error}") from None
    if missing:
        raise CorruptFile(f"{archive} holds no {sorted(missing)[0]}")


class _Pace:
    """Sees that a server sends something worth waiting for."""

    def __init__(self, url: str) -> None:
        self.url, self.since, self.came = url, time.monotonic(), 0

    def check(self, count: int) -> None:
        """So many bytes more; raises StreamlabError where a minute brought next to nothing."""
        self.came += count
        took = time.monotonic() - self.since
        if took > _WINDOW_SECONDS:
            if self.came < _LEAST_RATE * took:
                raise StreamlabError(
                    f"{self.url} sends less than {_LEAST_RATE} bytes a second; what has come is kept"
                )
            self.since, self.came = time.monotonic(), 0


def _receive(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """Append to `part` what it lacks of the file at `url`."""
    have = part.stat().st_size if part.exists() else 0
    size: int | None = None
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
            if answer.status != 206:
                have = 0
            length = answer.headers.get("Content-Length", "")
            size = have + int(length) if length.isascii() and length.isdecimal() else None
            pace = _Pace(url)
            with part.open("ab" if have else "wb") as file:
                while chunk := answer.read1(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    pace.check(len(chunk))
                    if size is None and have > _ENDLESS:
                        raise StreamlabError(f"{url} does not say how long it is, and goes on and on")
                    progress(have, size or have)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is lacking
            return
        raise StreamlabError(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, ValueError, OverflowError, HTTPException) as error:  # of connection, address, answer
        reason = getattr(error, "reason", error) or type(error).__name__
        raise StreamlabError(f"{url} cannot be had ({reason}); what has come is kept") from None
    if size is not None and have < size:
        raise StreamlabError(f"{url} broke off after {have} of {size} bytes; the same command goes on")
