"""Runs PyCIL by its own code on the study's images, and keeps its accuracies in theirs.json.

    python docs/studies/pycil/theirs.py CHECKOUT [--methods er,wa] [--seeds 6] [--classes 10]

CHECKOUT: a clone of github.com/G-U-N/PyCIL. Its models, networks, memory and evaluation are its own; what
this file settles are the numbers that PyCIL writes at the top of each model's file, which images its data
manager finds, and the seeds of torch and numpy, which PyCIL leaves at 1. One repair: FOSTER asks how many
images a class has, and PyCIL answers with 500 for CIFAR-100 and with a sum of positions for other sets;
here it is told the true number. BiC is also run with its correction repaired: PyCIL hands cross-entropy the
softmax of the outputs, whose softmax it takes again (`bic-once`: taken once). A run that is in the file
already is not repeated. Needs torchvision, tqdm.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import arrays

HERE = Path(__file__).parent
COUNT, TESTED = 200, 50  # images of a class
KEPT = HERE / "theirs.json"
METHODS = {
    "finetune": "Finetune", "replay": "Replay", "icarl": "iCaRL", "wa": "WA", "bic": "BiC", "der": "DER",
    "foster": "FOSTER", "memo": "MEMO", "bic-once": "BiC",
}  # fmt: skip
# The protocol: what the heads of the models' files and their configs are set to.
CONSTANTS = {
    "init_epoch": 6, "epochs": 6, "init_lr": 0.1, "lrate": 0.1, "init_milestones": [4, 5],
    "milestones": [4, 5], "init_lr_decay": 0.1, "lrate_decay": 0.1, "init_weight_decay": 5e-4,
    "weight_decay": 2e-4, "batch_size": 32, "num_workers": 0,
}  # fmt: skip
ARGUMENTS: dict[str, Any] = {
    "dataset": "cifar10", "memory_size": 100, "memory_per_class": 20, "fixed_memory": False,
    "shuffle": False, "init_cls": 2, "increment": 2, "convnet_type": "resnet32",
    "device": [torch.device("cpu")],
}  # fmt: skip
OF_FOSTER = {
    "init_epochs": 6, "boosting_epochs": 6, "compression_epochs": 6, "lr": 0.1, "beta1": 0.96,
    "beta2": 0.97, "oofc": "ft", "is_teacher_wa": False, "is_student_wa": False, "lambda_okd": 1,
    "wa_value": 1, "T": 2, "weight_decay": 5e-4,
}  # fmt: skip
OF_MEMO = {
    "convnet_type": "memo_resnet32", "train_base": True, "train_adaptive": False, "debug": False,
    "skip": False, "scheduler": "steplr", "t_max": None, "alpha_aux": 1.0,
}  # fmt: skip


def run(name: str, seed: int) -> dict[str, Any]:
    """One of PyCIL's runs: top-1 accuracy in percent after each session, by network and by means."""
    manager_of, factory = (
        importlib.import_module("utils.data_manager"),
        importlib.import_module("utils.factory"),
    )
    variant, name = name, name.removesuffix("-once")
    module = importlib.import_module(f"models.{name}")
    for constant, value in CONSTANTS.items():
        if hasattr(module, constant):
            setattr(module, constant, value)
    _silence(module)
    torch.manual_seed(seed)
    np.random.seed(seed)
    given = {**CONSTANTS, **ARGUMENTS, "model_name": name, "seed": seed}
    given |= {"foster": OF_FOSTER, "memo": OF_MEMO}.get(name, {})
    manager = manager_of.DataManager("cifar10", False, seed, given["init_cls"], given["increment"])
    model = factory.get_model(name, given)
    _top_two(model)
    if name == "foster":
        model.samples_new_class = lambda index: COUNT
    if name == "bic":
        _repair(module, variant)
    began, network, means = time.perf_counter(), [], []
    for _ in range(manager.nb_tasks):
        model.incremental_train(manager)
        by_network, by_means = model.eval_task()
        model.after_task()
        network.append(float(by_network["top1"]))
        if by_means is not None:
            means.append(float(by_means["top1"]))
    seconds = round(time.perf_counter() - began)
    return {"method": variant, "seed": seed, "network": network, "means": means, "seconds": seconds}


def _repair(module: Any, variant: str) -> None:
    """BiC's correction with one softmax, where the variant says so."""
    module.torch = torch
    if variant == "bic-once":
        module.torch = SimpleNamespace(softmax=lambda logits, dim: logits, mean=torch.mean, sum=torch.sum)


def _top_two(model: Any) -> None:
    """PyCIL asks for the five likeliest classes, and the first session has two; its logs name the five."""
    model.topk, judge = 2, model._evaluate

    def evaluate(*given: Any) -> Any:
        found = judge(*given)
        return {**found, "top5": found["top2"]}

    model._evaluate = evaluate


def _silence(module: Any) -> None:
    """Without the bars: a file's `tqdm` may only be counted through."""

    class Quiet:
        def __init__(self, over: Any) -> None:
            self.over = over

        def __iter__(self) -> Any:
            return iter(self.over)

        def set_description(self, text: str) -> None:
            pass

    module.tqdm = Quiet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--keep", type=Path, default=KEPT)
    given = parser.parse_args()
    sys.path.insert(0, str(given.checkout))
    commit = subprocess.run(
        ["git", "-C", given.checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    data = importlib.import_module("utils.data")

    def found(self: Any) -> None:
        images = arrays(COUNT, TESTED, given.classes)
        self.train_data, self.train_targets = images["train_images"], images["train_labels"]
        self.test_data, self.test_targets = images["test_images"], images["test_labels"]

    data.iCIFAR10.download_data = found
    data.iCIFAR10.class_order = list(range(given.classes))
    torch.set_num_threads(1)
    for seed in range(given.seeds):
        for name in given.methods.split(","):
            kept = (
                json.loads(given.keep.read_text()) if given.keep.exists() else {"commit": commit, "runs": []}
            )
            if kept["commit"] != commit:
                raise SystemExit(f"{given.keep} is of commit {kept['commit']}, and this is {commit}")
            if any((one["method"], one["seed"]) == (name, seed) for one in kept["runs"]):
                continue
            kept["runs"].append(run(name, seed))
            print(kept["runs"][-1], flush=True)
            given.keep.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
