"""`streamlab data`: what sources there are and where they lie, and the fetching of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from streamlab import plugins
from streamlab.config import readable_bytes
from streamlab.data.load import data_folder, source_plugin
from streamlab.data.names import plugin_of
from streamlab.data.picture_sets import PictureSet
from streamlab.data.published import Listed, Published
from streamlab.errors import StreamlabError


def print_sources(data: str | None) -> None:
    """A line a source: published ones with their counts, the others with how to name them."""
    folder = data_folder(data)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("source")
    for heading in ("classes", "train", "test", "image", "size"):
        table.add_column(heading, justify="right")
    table.add_column("found", no_wrap=True)
    others = []
    for plugin in plugins.installed("sources"):
        source = plugins.load("sources", plugin.name)
        if not isinstance(source, Listed):
            others.append(plugin)
            continue
        files = source.found(folder)
        channels, height, width = source.shape
        table.add_row(
            plugin.name,
            str(source.classes),
            f"{source.train:,}" if source.train else "–",
            f"{source.test:,}" if source.test else "–",
            f"{channels}x{height}x{width}",
            _bytes(source, files),
            _place(source) if files else "not there",
        )
    Console().print(table, highlight=False)
    print(f"\nDATA is {folder}; --data FOLDER or STREAMLAB_DATA name another.")
    print("What is not there: streamlab data fetch NAME. Of your own, and others':\n")
    for plugin in others:
        print(f"  {plugin.description}")


def _place(source: Listed) -> str:
    bundled = isinstance(source, Published) and not source.downloads
    return "bundled" if bundled else f"DATA/{source.folder}"


def _bytes(source: Listed, files: list[Path]) -> str:
    """Of its files; a set of pictures has too many to ask each."""
    if not files or isinstance(source, PictureSet):
        return "–"
    return readable_bytes(sum(path.stat().st_size for path in files))


def fetch_source(name: str, data: str | None) -> None:
    """Download a source under a progress bar; raises StreamlabError for one that cannot be fetched."""
    plugin, what = source_plugin(name if ":" in name else plugin_of(name))
    if not hasattr(plugin, "fetch"):
        raise StreamlabError(f"source {name} is your own; there is nothing to fetch")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns) as bars:
        shown: dict[str, Any] = {}

        def progress(file: str, done: int, size: int) -> None:
            if file not in shown:
                shown[file] = bars.add_task(file)
            bars.update(shown[file], completed=done, total=size)

        try:
            plugin.fetch(data_folder(data), *what, progress)
        except OSError as error:
            raise StreamlabError(f"cannot write to {data_folder(data)}: {error.strerror}") from None
        except StreamlabError as error:
            raise StreamlabError(f"source {name}: {error}") from None
    print(f"{name}: in {data_folder(data)}")
