"""`streamlab pretrain`: a backbone trained on any sources, written as weights and a card.

pretraining.json    what was asked, versions and machine     weights.safetensors   when complete
checkpoint-*        the last two states                       CARD.md               beside it
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import plugins
from ..config import configure, readable_bytes
from ..data.joined import joined
from ..data.load import load_source
from ..data.source import Source
from ..device import chosen_device, device_here
from ..errors import StreamlabError, unknown
from ..files import locked, write_bytes, write_json
from ..nets.network import PixelStatistics, build_network
from ..nets.transformer import PromptedTransformer, as_transformer
from ..nets.weights import as_weights
from ..randomness import global_randomness
from ..runs.checkpoints import remove_checkpoints
from ..runs.folder import provenance
from ..simulator.execute import deterministic
from ..simulator.fit import FitConfig, FitData, Fitted, Samples, fit
from ..training import MovesConfig, OptimizerConfig

WEIGHTS = "weights.safetensors"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "backbone": {"name": "vit"},
    "optimizer": {
        "name": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "unit": "share",
        "warmup": 0.05,
    },
    "augment": {"rotate": 10, "shear": 10, "scale": (0.8, 1.1), "shift": 0.08},
}
SECTIONS = (*DEFAULTS, "fit")


@dataclass(frozen=True)
class Pretraining:
    """What a person asks for. sources: joined into one; settings: backbone, fit, optimizer, augment."""

    sources: tuple[str, ...]
    seed: int = 0
    device: str = "auto"
    data: str | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """A section as it applies: the defaults, and what was set."""
        return {**DEFAULTS.get(name, {}), **self.settings.get(name, {})}

    @property
    def fit_config(self) -> FitConfig:
        """How long and how; raises StreamlabError for an option that there is not."""
        return configure(FitConfig, self.section("fit"), "fit")


def pretrain(
    request: Pretraining, folder: Path, hear: Callable[[Fitted], None] = lambda fitted: None
) -> Path:
    """Train, or go on where it was cut; returns the weights file.

    Raises StreamlabError for a backbone that takes no weights, a folder of another pretraining, or
    one that is complete.
    """
    for name in request.settings:
        if name not in SECTIONS:
            raise unknown("section", name, SECTIONS)
    config = request.fit_config
    optimizer = configure(OptimizerConfig, request.section("optimizer"), "optimizer")
    if optimizer.label_smoothing:
        raise StreamlabError(
            "pretraining smooths labels by fit.smoothing; leave out optimizer.label_smoothing"
        )
    moves = configure(MovesConfig, request.section("augment"), "augment")
    backbone = request.section("backbone")
    known = plugins.load("backbones", str(backbone["name"])).__dataclass_fields__
    if backbone.get("weights", "random") != "random":
        raise StreamlabError("pretraining begins with random weights; leave backbone.weights out")
    if "weights" not in known:
        raise StreamlabError(f"backbone {backbone['name']} takes no weights; pretrain one that does, as vit")
    source = joined([load_source(name, request.data) for name in request.sources])
    if source.wholes is not None:
        raise StreamlabError("pretraining moves images and cuts no part of pictures; leave out whole")
    device = device_here(chosen_device(request.device))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _check_folder(folder, request, source)
        with deterministic(str(device)), global_randomness(request.seed, "setup"):
            pixels = PixelStatistics(*source.mean_and_deviation)
            backbone |= {"mean": round(pixels.mean, 4), "deviation": round(pixels.deviation, 4)}
            options = {**backbone, "trained": True}
            network = build_network(options, source.image_shape, len(source.class_names), pixels).to(device)
            samples = [
                Samples.of(torch.tensor(images, device=device), torch.tensor(labels, device=device))
                for images, labels in (
                    (source.train_images, source.train_labels),
                    (source.test_images, source.test_labels),
                )
            ]
            began = time.perf_counter()
            data = FitData(samples[0], samples[1], operations=moves.operations)
            trained, history = fit(network, data, config, optimizer, request.seed, folder, hear)
            seconds = time.perf_counter() - began
        header = _header(backbone, as_transformer("pretrain", trained.backbone))
        write_bytes(folder / WEIGHTS, as_weights(trained.backbone.get_submodule("model"), header))
        card = _card(request, source, trained, config, history, seconds)
        write_bytes(folder / "CARD.md", card.encode())
        remove_checkpoints(folder)
    return folder / WEIGHTS


def _check_folder(folder: Path, request: Pretraining, source: Source) -> None:
    if (folder / WEIGHTS).exists():
        raise StreamlabError(f"{folder} holds {WEIGHTS} already; name another folder, or remove it")
    asked = json.loads(json.dumps({**dataclasses.asdict(request), "source_digest": source.digest}))
    about = folder / "pretraining.json"
    if not about.exists():
        write_json(about, {"request": asked, "provenance": provenance()})
    elif json.loads(about.read_text(encoding="utf-8"))["request"] != asked:
        raise StreamlabError(f"{folder} holds another pretraining, begun with other settings; name another")


def _header(backbone: Mapping[str, Any], trained: PromptedTransformer) -> dict[str, Any]:
    """The options that build this backbone again, whatever images it is then given."""
    left_out = ("name", "weights", "trained")
    options = {name: value for name, value in backbone.items() if name not in left_out}
    made = configure(plugins.load("backbones", str(backbone["name"])), options, "backbone")
    kept = {name: value for name, value in dataclasses.asdict(made).items() if name not in left_out}
    return {**kept, "image_size": trained.side, "channels": trained.channels}


def _card(
    request: Pretraining,
    source: Source,
    trained: torch.nn.Module,
    config: FitConfig,
    history: list[tuple[float, float, float]],
    seconds: float,
) -> str:
    """What was trained on what, how, and how well it did on held-out images."""
    count = sum(parameter.numel() for parameter in trained.get_submodule("backbone").parameters())
    loss, held_out, accuracy = history[-1]
    settings = "\n".join(
        f"- {section}: " + ", ".join(f"{name} {value}" for name, value in request.section(section).items())
        for section in SECTIONS
        if request.section(section)
    )
    about = provenance()
    return f"""# Weights trained by `streamlab pretrain`

- Sources: {", ".join(request.sources)}, digest `{source.digest}`:
  {len(source.class_names):,} classes, {len(source.train_labels):,} training images,
  {len(source.test_labels):,} held out.
- {count:,} parameters, {readable_bytes(4 * count)}; seed {request.seed}; {config.epochs} epochs.
- After the last epoch: training loss {loss:.3f}; held out: loss {held_out:.3f}, accuracy {accuracy:.1f} %.
- The last go took {seconds / 60:.1f} minutes on {about["system"]}, torch {about["packages"]["torch"]}.

{settings}
"""
