"""Servers that answer as none should, and archives that are damaged on the way: what `fetch` makes of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import tarfile
import threading
import zipfile
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from streamlab.data import fetch as fetching
from streamlab.data.fetch import Download, fetch

NAMES = ("labels.bin", "images.bin")
WANTED = {name: random.Random(name).randbytes(3000) for name in NAMES}


def archive(form: str) -> bytes:
    """The wanted files in a folder of a tar or zip archive, or the first of them as it lies."""
    held = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in WANTED.items():
                packed.writestr(zipfile.ZipInfo(f"set/{name}"), content)
    elif form == "tar":
        with tarfile.open(fileobj=held, mode="w") as tar:
            for name, content in WANTED.items():
                member = tarfile.TarInfo(f"set/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    else:
        return WANTED[NAMES[0]]
    return held.getvalue()


class Answer:
    """What the server says next: as drawn, and to the request's range or not."""

    def __init__(self, draws: random.Random, content: bytes) -> None:
        pick = draws.choice
        self.content = bytearray(content)
        if pick([True, False, False]):
            for _ in range(pick([1, 3, 30])):
                self.content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        self.status = pick(
            [200] * 12 + [206, 206, 206, 204, 301, 302, 308, 401, 404, 416, 429, 500, 503, 299, 999]
        )
        self.ranged = pick([True, True, False])
        right = str(len(content))
        self.length = pick(
            [right] * 9 + [None, "0", "-1", "many", "1e9", "9" * 400, str(len(content) * 3), "٣"]
        )
        self.location = pick(
            ["/again", "http://[::1", "file:///etc/passwd", "ftp://x/y", "", "http://\x7f", "//"]
        )
        self.headers = draws.sample(
            [
                ("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip"), ("Content-Range", "bytes 7-3/1"),
                ("Connection", "close"), ("X", "y" * 70_000), ("Content-Type", "\x00\x01"), ("Set-Cookie", ";" * 999),
            ],
            pick([0, 0, 1, 2]),
        )  # fmt: skip
        self.cut = pick([None] * 6 + [0, 1, draws.randrange(len(content))])
        self.line = pick([b""] * 12 + [b"\xff\xfe\n", b"HTTP/9 what\r\n", b"\r\n" * 200])


class Odd(BaseHTTPRequestHandler):
    """Answers as `answers[path]` was drawn."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, Answer]] = {}

    def do_GET(self) -> None:
        self.close_connection = True
        said = self.answers.get(self.path)
        if said is None:
            self.send_error(404)
            return
        with contextlib.suppress(OSError):
            self.wfile.write(said.line)
            self.send_response(said.status, "as it is")
            if 300 <= said.status < 400:
                self.send_header("Location", said.location)
            if said.length is not None:
                self.send_header("Content-Length", said.length.encode("utf-8").decode("latin-1"))
            for name, value in said.headers:
                self.send_header(name, value)
            self.end_headers()
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and said.ranged else 0
            self.wfile.write(said.content[start : said.cut])

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@cache
def server() -> str:
    """The address of one that answers for as long as this process lives."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{made.server_address[1]}"


def attack(draws: random.Random, folder: Path) -> None:
    """Fetch twice, as a person would again: what is then there is whole, or something is said."""
    from attack import Silent

    form = draws.choice(["plain", "tar", "zip"])
    content = archive(form)
    name = f"/{draws.getrandbits(64):x}.{form}"
    if draws.random() < 0.3:  # published with its damage: the sum fits, the archive does not
        harmed = bytearray(content)
        for _ in range(draws.choice([1, 5, 100])):
            harmed[draws.randrange(len(harmed))] ^= 1 << draws.randrange(8)
        content = bytes(harmed)
    published = hashlib.md5(content).hexdigest()
    wanted = Download(server() + name, published, () if form == "plain" else NAMES)
    if draws.random() < 0.3:
        (folder / f"{wanted.file}.part").write_bytes(content[: draws.randrange(len(content))])
    fetching._PATIENCE_SECONDS = 5
    Odd.answers[name] = Answer(draws, content)
    try:
        fetch(wanted, folder, lambda file, done, size: None)
    finally:
        del Odd.answers[name]
        for file in (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".part"):
            right = content if file.name == wanted.file else WANTED.get(file.name)
            if file.read_bytes() != right and content == archive(form):
                raise Silent(f"{file.name} is there, and is not as it was published")
    if form == "plain" and (folder / wanted.file).read_bytes() != content:
        raise Silent("what was fetched is not what was published")
