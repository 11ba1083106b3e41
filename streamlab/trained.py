"""The trained network of a run: kept by `--record network`, loaded by `load_network`, handed on as a folder.

network.safetensors holds everything that a strategy predicts with (network, prompts, class means, …) under
the names that a `state_dict` would give, and in its header what was run, so that it is enough by itself.
Exemplars and the optimizer's state are left out. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .device import chosen_device
from .errors import CorruptFile, StreamlabError
from .files import write_bytes, write_json
from .memory.buffer import Buffer
from .nets.network import Network, PixelStatistics
from .runs.folder import RunFolder, provenance
from .runs.spec import RunSpec
from .setting import Problem
from .simulator.assembly import make_strategy
from .strategy import Strategy

FILE = "network.safetensors"
CARD = "network.md"
_HEADER = "streamlab.network"
_HUB_HEAD = """---
library_name: streamlab
pipeline_tag: image-classification
tags:
- continual-learning
---

"""
_LEFT_OUT = (Buffer, torch.optim.Optimizer)


class TrainedNetwork(nn.Module):
    """What a run has learned, as a module: images in, scores out.

    class_names: of the source, in the order of the scores. exposed: (classes,) bool, those that the stream
    has shown. net: the network alone (backbone and head). strategy: the strategy, for what else it can do;
    its buffers are empty. It stays on the device that it was loaded to.
    """

    def __init__(self, strategy: Strategy, class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.net: Network = strategy.net
        self.class_names = class_names
        self.strategy = strategy
        self.eval()

    @property
    def exposed(self) -> Tensor:
        """(classes,) bool: the classes that the stream has shown."""
        return self.strategy.exposed

    def train(self, mode: bool = True) -> TrainedNetwork:
        """Put the network, and what is trained beside it, into training or evaluation mode."""
        super().train(mode)
        self.strategy.train_mode(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, classes) scores; minus infinity for a class that was never shown."""
        return self.strategy.predict(images).masked_fill(~self.exposed, float("-inf"))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> (B, feature_size): what the backbone makes of them."""
        return self.net.features(images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[str]:
        """(B, C, H, W) uint8 -> the name of the class of each."""
        return [self.class_names[label] for label in self(images).argmax(1).tolist()]


def load_network(
    path: str | Path, device: str = "cpu", strategy: type[Strategy] | None = None
) -> TrainedNetwork:
    """The trained network in a run's folder, in a model folder that was exported, or in the file itself.

    It is in evaluation mode; its parameters learn where they did in the run. strategy: the class, where the
    run was of one that has no importable name. Raises StreamlabError where there is none, or its plugin is
    not installed; CorruptFile for a file that is damaged.
    """
    file = _find(Path(path))
    if file.name == FILE and (file.parent / "run.json").exists():
        RunFolder(file.parent).check()
    about, tensors = _read(file)
    spec = RunSpec.from_plain({**about["spec"], "device": chosen_device(device)})
    posed = dict(about["problem"])
    posed |= {
        "image_shape": tuple(posed["image_shape"]),
        "pixels": PixelStatistics(**posed["pixels"]),
    }
    made = make_strategy(spec, Problem(**posed), strategy)
    made.account.put_state(about["state"], tensors, made.setting.device)
    return TrainedNetwork(made, tuple(about["class_names"]))


def write_network(folder: RunFolder, strategy: Strategy, metrics: Mapping[str, float]) -> None:
    """Write a strategy as it is now into a run's folder, and a card beside it."""
    from safetensors.torch import save

    state, tensors = strategy.account.take_state(leave_out=_LEFT_OUT)
    names = [field.name for field in dataclasses.fields(Problem)]
    problem = Problem(**{name: getattr(strategy.setting, name) for name in names})
    about = {
        "spec": folder.spec.to_plain(),
        "problem": dataclasses.asdict(problem),
        "class_names": folder.about["class_names"],
        "state": state,
    }
    write_bytes(folder.path / FILE, save(tensors, {_HEADER: json.dumps(about)}))
    count = sum(parameter.numel() for parameter in strategy.net.parameters())
    write_bytes(folder.path / CARD, _card(folder.spec, count, metrics).encode())


def export_model(run: Path, out: Path) -> Path:
    """Write a run's network as a model folder of Hugging Face's form: config, safetensors, card.

    `load_network` takes the folder; so does `hf upload`. Raises StreamlabError where the run kept none.
    """
    file = _find(run)
    about, _ = _read(file)
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "model.safetensors", file.read_bytes())
    spec = about["spec"]
    names = dict(enumerate(about["class_names"]))
    config = {
        "library_name": "streamlab",
        "architectures": [spec["strategy"]],
        "backbone": spec["backbone"],
        "image_shape": about["problem"]["image_shape"],
        "num_labels": len(names),
        "id2label": names,
        "label2id": {name: number for number, name in names.items()},
    }
    write_json(out / "config.json", config)
    card = (file.with_name(CARD)).read_text(encoding="utf-8")
    write_bytes(out / "README.md", (_HUB_HEAD + card).encode())
    return out


def _find(path: Path) -> Path:
    """The file that is meant by a file or a folder."""
    if path.is_file():
        return path
    for name in (FILE, "model.safetensors"):
        if (path / name).is_file():
            return path / name
    if (path / "run.json").exists():
        done = "is not complete" if RunFolder(path).result is None else "kept no network"
        raise StreamlabError(f"{path} {done}; a run that is given --record network keeps it at its end")
    raise StreamlabError(f"{path} holds no trained network (there is no {FILE} or model.safetensors in it)")


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(file, framework="pt") as opened:
            about: dict[str, Any] = json.loads((opened.metadata() or {})[_HEADER])
        return about, load_file(file)
    except KeyError:
        raise StreamlabError(f"{file} was not written by a run that was given --record network") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(f"{file} is no whole network file: {error}") from None


def _card(spec: RunSpec, parameters: int, metrics: Mapping[str, float]) -> str:
    """What was learned, from what, how well, and how it is loaded."""
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    about = provenance()["packages"]
    versions = ", ".join(f"{name} {number}" for name, number in about.items())
    return f"""# {spec.label} on {spec.source}

A network of {parameters:,} parameters, learned by the strategy `{spec.strategy}` on the scenario
`{spec.scenario}` of the source `{spec.source}` (seed {spec.seed}, stream {spec.plan_seed}, {spec.budget}).

```python
import streamlab

network = streamlab.load_network("FOLDER")
scores = network(images)  # (B, C, H, W) uint8 -> (B, classes)
```

Without streamlab, `safetensors.torch.load_file` reads the tensors; the backbone's begin with `net.backbone.`.

| metric at the end of the stream | value |
| --- | --- |
{measured}

Source `{spec.source_digest}`, plan `{spec.plan_fingerprint}`; {versions}.
"""
