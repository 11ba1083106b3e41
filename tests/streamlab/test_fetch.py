"""Downloads against a server on this machine: whole, cut and gone on with, and wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

from streamlab import plugins
from streamlab.data import fetch as fetch_of
from streamlab.data.fetch import Download, fetch, unpack_zip
from streamlab.data.published import Published
from streamlab.errors import CorruptFile, StreamlabError

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut_at` ends an answer early, once. Keeps the ranges it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut_at: int | None = None
        self.asked: list[str | None] = []

    def download(self, name: str, content: bytes, unpack: tuple[str, ...] = ()) -> Download:
        self.files[f"/{name}"] = content
        address = f"http://127.0.0.1:{self.server_address[1]}/{name}"
        return Download(address, hashlib.md5(content).hexdigest(), unpack)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end, self.server.cut_at = self.server.cut_at, None
        self.wfile.write(content[start:end])

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_cut_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    download = server.download("set.bin", CONTENT)
    server.cut_at = 300_000
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(StreamlabError, match=r"set\.bin") as error:
        fetch(download, tmp_path, lambda *progress: seen.append(progress))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set.bin").exists()
    kept = (tmp_path / "set.bin.part").stat().st_size
    assert 0 < kept <= 300_000
    fetch(download, tmp_path, lambda *progress: seen.append(progress))
    assert server.asked == [None, f"bytes={kept}-"]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert seen[-1] == ("set.bin", len(CONTENT), len(CONTENT))
    fetch(download, tmp_path, lambda *progress: None)
    assert len(server.asked) == 2, "a file that is there is not asked for again"


def test_a_wrong_checksum_is_refused_and_the_file_thrown_away(server: Server, tmp_path: Path) -> None:
    right = server.download("set.bin", CONTENT)
    server.files["/set.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(CorruptFile, match=rf"set\.bin: its MD5 is \w+, and should be {right.md5}"):
        fetch(right, tmp_path, lambda *progress: None)
    assert not list(tmp_path.iterdir())
    (tmp_path / "set.bin").write_bytes(b"damaged")
    with pytest.raises(CorruptFile, match="its MD5 is"):
        fetch(right, tmp_path, lambda *progress: None)


def test_an_address_that_does_not_answer_is_one_sentence(server: Server, tmp_path: Path) -> None:
    missing = Download(server.download("set.bin", b"x").url.replace("set", "other"), "0" * 32)
    with pytest.raises(StreamlabError, match=r"other\.bin") as error:
        fetch(missing, tmp_path, lambda *progress: None)
    assert "404" in str(error.value)


def test_wanted_members_are_unpacked_and_nothing_else(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (
            ("deep/train.bin", b"train"),
            ("../evil.bin", b"evil"),
            ("deep/test.bin", b"test"),
        ):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    whole = server.download("set.tar.gz", packed.getvalue(), ("train.bin", "test.bin"))
    fetch(whole, tmp_path / "set", lambda *progress: None)
    assert {path.name for path in tmp_path.rglob("*.bin")} == {"train.bin", "test.bin"}
    assert (tmp_path / "set" / "train.bin").read_bytes() == b"train"
    assert not (tmp_path / "set" / "set.tar.gz").exists()
    lacking = server.download("more.tar.gz", packed.getvalue(), ("train.bin", "other.bin"))
    with pytest.raises(CorruptFile, match=r"holds no other\.bin"):
        fetch(lacking, tmp_path / "more", lambda *progress: None)
    cut = server.download("cut.tar.gz", packed.getvalue()[:60], ("train.bin",))
    with pytest.raises(CorruptFile, match="cannot be unpacked"):
        fetch(cut, tmp_path / "cut", lambda *progress: None)


def test_a_zip_archive_is_unpacked_whole_without_its_top_folder(server: Server, tmp_path: Path) -> None:
    def packed(**files: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return made.getvalue()

    content = packed(**{"top/list.txt": b"list", "top/train/a/1.jpeg": b"one", "top/val/2.jpeg": b"two"})
    whole = server.download("set.zip", content, ("list.txt",))
    fetch(whole, tmp_path / "set", lambda *progress: None)
    found = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.*")}
    assert found == {"list.txt", "train/a/1.jpeg", "val/2.jpeg"}
    assert (tmp_path / "set/train/a/1.jpeg").read_bytes() == b"one"
    fetch(whole, tmp_path / "set", lambda *progress: None)  # is there: nothing is asked for
    lacking = server.download("more.zip", content, ("other.txt",))
    with pytest.raises(CorruptFile, match=r"holds no other\.txt"):
        fetch(lacking, tmp_path / "more", lambda *progress: None)
    evil = server.download(
        "evil.zip", packed(**{"top/list.txt": b"list", "top/../../evil.txt": b"evil"}), ("list.txt",)
    )
    with pytest.raises(CorruptFile, match="would write outside of its folder"):
        fetch(evil, tmp_path / "evil", lambda *progress: None)
    assert not (tmp_path / "evil.txt").exists()
    cut = server.download("cut.zip", content[:60], ("list.txt",))
    with pytest.raises(CorruptFile, match="cannot be unpacked"):
        fetch(cut, tmp_path / "cut", lambda *progress: None)


def test_a_zip_archive_whose_unpacking_was_cut_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("top/list.txt", "a line that is cut")

    def cut(source: IO[bytes], target: IO[bytes]) -> None:
        target.write(source.read(6))
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfileobj", cut)
    with pytest.raises(KeyboardInterrupt):
        unpack_zip(tmp_path / "set.zip", ("list.txt",), tmp_path)
    assert not (tmp_path / "list.txt").exists()


def test_published_sets_name_an_official_address_and_a_checksum_for_each_file() -> None:
    for name in plugins.names("sources"):
        source = plugins.load("sources", name)
        if isinstance(source, Published):
            assert source.downloads or name == "glyphs-100"
            for download in source.downloads:
                assert re.fullmatch(r"[0-9a-f]{32}", download.md5), name
                assert download.url.startswith(("https://", "http://")), name


class Odd(BaseHTTPRequestHandler):
    """Answers as the path says."""

    def do_GET(self) -> None:
        how = self.path.strip("/")
        if how.startswith("to"):
            self.send_response(302)
            self.send_header("Location", {"to-nowhere": "http://[::1", "to-file": "file:///etc/passwd"}[how])
            self.end_headers()
            return
        self.send_response(200)
        if how.startswith("length"):
            self.send_header("Content-Length", {"length-text": "many", "length-negative": "-5"}[how])
        if how == "chunk":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if how == "chunk":
            self.wfile.write(b"5\r\nabcde\r\nZZ\r\n")
            return
        with contextlib.suppress(OSError):
            for _ in range(40 if how in ("endless", "drip") else 1):
                self.wfile.write(b"x" * (1 if how == "drip" else 1 << 16))
                self.wfile.flush()
                time.sleep(0.05 if how == "drip" else 0)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("to-nowhere", "cannot be had"),
        ("to-file", "answers 302|cannot be had"),
        ("length-text", "its MD5 is"),
        ("length-negative", "its MD5 is"),
        ("chunk", "cannot be had .*; what has come is kept"),
        ("endless", "does not say how long it is, and goes on and on"),
        ("drip", "sends less than 1024 bytes a second; what has come is kept"),
    ],
)
def test_odd_servers_are_told_in_a_sentence(
    how: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_of, "_ENDLESS", 1 << 20)
    monkeypatch.setattr(fetch_of, "_WINDOW_SECONDS", 0.3)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        with pytest.raises(StreamlabError, match=said):
            fetch(Download(f"http://127.0.0.1:{made.server_address[1]}/{how}", "0" * 32), tmp_path, print)
    finally:
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize("place", range(4, 60, 5))
def test_a_damaged_zip_archive_is_one_sentence(place: int, tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("set/labels", b"ab" * 300)
    for value in (0xFF, 0x01, 0x0C):
        content = bytearray(held.getvalue())
        content[place] = value
        content[-60 + place % 40] ^= value
        (tmp_path / "a.zip").write_bytes(content)
        with contextlib.suppress(CorruptFile):
            unpack_zip(tmp_path / "a.zip", ("labels",), tmp_path / "out")
            assert (tmp_path / "out" / "labels").read_bytes() == b"ab" * 300
