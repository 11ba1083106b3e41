"""The work that every party of the benchmark does: the same plan, buffer, network and points."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """Replay on Fashion-MNIST in five tasks of two classes, with 500 exemplars.

    samples_per_class: of 6,000 each. batch: new samples a step, as many are replayed. eval_every:
    samples between evaluations of the exposed classes (0: at task ends alone).
    """

    title: str
    kind: str
    backbone: str
    batch: int
    samples_per_class: int
    eval_every: int
    rate: float = 0.05
    buffer: int = 500
    avalanche_samples: int = 0
    backbone_options: dict[str, object] = field(default_factory=dict)

    @property
    def scenario(self) -> dict[str, object]:
        """The scenario's options."""
        return {"kind": self.kind, "class_order": "sorted", "samples_per_class": self.samples_per_class}


JOBS = {
    "online-mlp": Job(
        "Online reservoir replay, 10 new + 10 replayed, a 784-256-10 MLP",
        "online", "mlp", 10, 6_000, 4_000, avalanche_samples=8_000, backbone_options={"widths": [256]},
    ),
    "steps": Job(
        "One step of a method, 10 new + 10 replayed, the same MLP",
        "online", "mlp", 10, 1_200, 0, avalanche_samples=2_400, backbone_options={"widths": [256]},
    ),
    "offline-mlp": Job(
        "Offline replay, 64 new + 64 replayed, one epoch a task, the same MLP",
        "sessions", "mlp", 64, 6_000, 0, avalanche_samples=60_000, backbone_options={"widths": [256]},
    ),
    "offline-convnet": Job(
        "Offline replay, 64 new + 64 replayed, a ConvNet of four 3x3 convolutions with GroupNorm",
        "sessions", "convnet", 64, 1_200, 0, backbone_options={"width": 32, "blocks": 4},
    ),
}  # fmt: skip


def plan_and_source(job: Job, data: str, seed: int = 0):
    """The plan of a job, and its source."""
    from streamlab.data.load import load_source
    from streamlab.planning import make_plan

    source = load_source("fashion-mnist", data)
    return make_plan("class-incremental", source.labels, seed, job.scenario), source


def cells_of(source, scenario: str, *strategies: str, **request):
    """The cells of a request on a source that is there, with one seed: what `streamlab run` would run."""
    from streamlab.experiments.grid import prepare_grid
    from streamlab.experiments.request import Request

    asked = Request(
        **{"scenarios": (scenario,), "source": source.name, "strategies": strategies, "seeds": 1, **request}
    )
    return prepare_grid(asked, {source.name: source}).cells
