"""The same work through Avalanche: as it comes, and at its best."""

from __future__ import annotations

import time

import torch
from avalanche.benchmarks import CLScenario, CLStream, split_online_stream
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.supervised import DER, ER_ACE, EWC, Naive
from jobs import Job, plan_and_source
from PIL import Image
from plain import mlp
from torch.utils.data import TensorDataset
from torchvision import transforms


class Pictures:
    """Images as torchvision's own data sets serve them: a PIL picture and a transform a sample."""

    def __init__(self, images, labels, mean: float, deviation: float) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((mean,), (deviation,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index, 0], mode="L")), int(self.labels[index])


def run(job: Job, data: str, at_its_best: bool, strategy_name: str = "er") -> dict[str, float]:
    """A strategy (er: Naive with ReplayPlugin and a reservoir) on the first samples of the job's stream.

    At its best: pictures normalised into one tensor ahead, one metric and no logger.
    """
    torch.manual_seed(0)
    plan, source = plan_and_source(job, data)
    mean, deviation = source.mean_and_deviation

    def dataset_of(images, labels) -> AvalancheDataset:
        y = torch.from_numpy(labels.copy())
        served = Pictures(images, labels, mean, deviation)
        if at_its_best:
            served = TensorDataset((torch.from_numpy(images.copy()).float() / 255 - mean) / deviation, y)
        targets = DataAttribute(y.tolist(), "targets")
        tasks = DataAttribute([0] * len(y), "targets_task_labels", use_in_getitem=True)
        return AvalancheDataset([served], data_attributes=[targets, tasks])

    def stream_of(name: str, parts) -> CLStream:
        experiences = [
            DatasetExperience(dataset=dataset_of(*part), current_experience=number)
            for number, part in enumerate(parts)
        ]
        return CLStream(name, experiences)

    chosen, left = [], job.avalanche_samples
    for experience in plan.experiences:
        chosen.append(experience.indices[:left])
        left -= len(chosen[-1])
        if left <= 0:
            break
    train = stream_of("train", [(source.train_images[i], source.train_labels[i]) for i in chosen])
    judged = [experience.test_indices for experience in plan.experiences[: len(chosen)]]
    test = stream_of("test", [(source.test_images[i], source.test_labels[i]) for i in judged])
    scenario = CLScenario([train, test])
    model = mlp()
    storage = ReservoirSamplingBuffer(job.buffer)
    replay = ReplayPlugin(
        mem_size=job.buffer, batch_size=job.batch, batch_size_mem=job.batch, storage_policy=storage
    )
    quiet = {"evaluator": EvaluationPlugin(accuracy_metrics(stream=True), loggers=[])} if at_its_best else {}
    common = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=job.rate),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_mb_size": job.batch,
        "eval_mb_size": 500,
        **quiet,
    }
    memory = {"mem_size": job.buffer, "batch_size_mem": job.batch}
    make = {
        "er": lambda: Naive(plugins=[replay], **common),
        "er-ace": lambda: ER_ACE(**memory, **common),
        "der++": lambda: DER(alpha=0.5, beta=0.5, **memory, **common),
        "ewc": lambda: EWC(ewc_lambda=50, mode="online", decay_factor=1.0, **common),
    }
    strategy = make[strategy_name]()
    spent = {"train": 0.0, "evaluate": 0.0, "samples": 0.0, "accuracy": 0.0}
    stream = scenario.train_stream
    if job.kind == "online" and strategy_name != "ewc":
        stream = split_online_stream(stream, experience_size=job.batch)
    begun = 0
    for experience in stream:
        began = time.perf_counter()
        strategy.train(experience, num_workers=0)
        spent["train"] += time.perf_counter() - began
        spent["samples"] += len(experience.dataset)
        begun = begun + 1 if job.kind == "sessions" else 1 + int((spent["samples"] - 1) // len(chosen[0]))
        due = job.eval_every and spent["samples"] % job.eval_every < job.batch
        if due or job.kind == "sessions":
            began = time.perf_counter()
            metrics = strategy.eval(list(scenario.test_stream)[:begun], num_workers=0)
            named = (float(value) for name, value in metrics.items() if name.startswith("Top1_Acc_Stream"))
            spent["accuracy"] = next(named)
            spent["evaluate"] += time.perf_counter() - began
    return spent
