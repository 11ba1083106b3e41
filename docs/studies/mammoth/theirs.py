"""Runs Mammoth's models by their own code on the study's images, and keeps their accuracies in theirs.json.

    python docs/studies/mammoth/theirs.py CHECKOUT

CHECKOUT: a clone of github.com/aimagelab/mammoth. Its models, buffer, network and augmentation of what is
replayed are its own; the loop over the stream is here, one pass in the order of the images shuffled by the
seed within each task, as its loaders shuffle. Needs kornia and torchvision. A run that is in the file
already is not repeated.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays

KEPT = Path(__file__).parent / "theirs.json"
COUNT, TESTED, WIDTH = 500, 100, 20
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2615)
MODELS = {
    "er": ("models.er", "Er", {}),
    "derpp": ("models.derpp", "Derpp", {"alpha": 0.1, "beta": 0.5}),
    "er_ace": ("models.er_ace", "ErACE", {"task_free": True, "use_custom_classifier": True}),
}
COMMON = {
    "buffer_size": 200, "minibatch_size": 10, "batch_size": 10, "lr": 0.03, "optimizer": "sgd",
    "optim_wd": 0.0, "optim_mom": 0.0, "optim_nesterov": False, "label_perc": 1, "nowand": 1,
    "debug_mode": 0, "fitting_epochs": None, "n_epochs": 1,
}  # fmt: skip


class Package(ModuleType):
    """A package of Mammoth's whose first file, which imports every set or model there is, is not run.

    What others import of that file is there, and is not called in these runs.
    """

    def __init__(self, checkout: Path, name: str) -> None:
        super().__init__(name)
        self.__path__ = [str(checkout / name)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("get_"):
            return None
        raise AttributeError(name)


def run(name: str, seed: int) -> dict[str, Any]:
    """One of Mammoth's runs: class-incremental accuracy in percent after each task."""
    module, kind, own = MODELS[name]
    torch.manual_seed(seed)
    np.random.seed(seed)
    network = importlib.import_module("backbone.ResNetBlock").resnet18(10, WIDTH)
    normalise = transforms.Normalize(MEAN, DEVIATION)
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    augment = transforms.Compose([*crop, transforms.ToTensor(), normalise])
    dataset = SimpleNamespace(
        N_CLASSES=10, N_TASKS=5, N_CLASSES_PER_TASK=2, SETTING="class-il",
        get_normalization_transform=lambda: normalise,
    )  # fmt: skip
    both = transforms.Compose([transforms.ToPILImage(), augment])
    model = getattr(importlib.import_module(module), kind)(
        network, F.cross_entropy, Namespace(**COMMON, **own, seed=seed), both, dataset
    )
    images, picture = arrays(COUNT, TESTED), transforms.ToPILImage()
    began, found = time.perf_counter(), []
    for task in range(5):
        model._current_task = task
        rows = np.flatnonzero(images["train_labels"] // 2 == task)
        for part in np.array_split(np.random.permutation(rows), len(rows) // COMMON["batch_size"]):
            pictures = [picture(image) for image in images["train_images"][part]]
            labels = torch.from_numpy(images["train_labels"][part])
            lying = torch.stack([transforms.functional.to_tensor(one) for one in pictures])
            model.net.train()
            model.observe(torch.stack([augment(one) for one in pictures]), labels, lying, epoch=0)
        found.append(_accuracy(model, normalise, images, 2 * task + 2))
    return {"method": name, "seed": seed, "accuracies": found, "seconds": round(time.perf_counter() - began)}


@torch.no_grad()
def _accuracy(model: Any, normalise: Any, images: Any, classes: int) -> float:
    """In percent, on the classes seen so far, among all of the head's."""
    rows = np.flatnonzero(images["test_labels"] < classes)
    pixels = torch.from_numpy(images["test_images"][rows]).permute(0, 3, 1, 2).float() / 255
    model.net.eval()
    outputs: Tensor = torch.cat([model.net(part) for part in normalise(pixels).split(100)])
    right = outputs.argmax(1) == torch.from_numpy(images["test_labels"][rows])
    return round(100 * right.float().mean().item(), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9")
    given = parser.parse_args()
    sys.path.insert(0, str(given.checkout))
    for folder in ("models", "datasets"):
        sys.modules[folder] = Package(given.checkout, folder)
    asked = ["git", "-C", given.checkout, "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    torch.set_num_threads(1)
    for seed in map(int, given.seeds.split(",")):
        for name in MODELS:
            kept: dict[str, Any] = {"commit": commit, "runs": []}
            if KEPT.exists():
                kept = json.loads(KEPT.read_text())
            if any((one["method"], one["seed"]) == (name, seed) for one in kept["runs"]):
                continue
            kept["runs"].append(run(name, seed))
            print(kept["runs"][-1], flush=True)
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
