"""One turn of one party at one job, in a process of its own: prints its figures as JSON.

python tests/benchmarks/parties.py --party streamlab --job online-mlp --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from jobs import JOBS, Job


def plain(job: Job, data: str) -> dict[str, float]:
    import torch
    from plain import run

    torch.set_num_threads(1)
    return run(job, data)


def streamlab(job: Job, data: str) -> dict[str, float]:
    """`er` in a worker, run folder and checkpoints included."""
    from streamlab.api import run

    with tempfile.TemporaryDirectory() as folder:
        experiment = run(
            "class-incremental",
            "fashion-mnist",
            ["er"],
            seeds=1,
            data=data,
            workers=1,
            out=Path(folder) / "out",
            eval_every=job.eval_every or 10**9,
            budget=f"{job.buffer}ex",
            show=False,
            settings={
                "scenario": job.scenario,
                "stream": {"batch_size": job.batch},
                "optimizer": {"lr": job.rate},
                "backbone": {"name": job.backbone, **job.backbone_options},
                "er": {"replay_size": job.batch},
            },
        )
        (made,) = experiment.runs
        spent = made.result["resources"]
        return {
            "train": spent["train_seconds"],
            "evaluate": spent["evaluation_seconds"],
            "samples": 10.0 * job.samples_per_class,
            "accuracy": made.metrics["a_last"],
            "peak": spent["peak_memory_bytes"],
        }


def avalanche(job: Job, data: str) -> dict[str, float]:
    return _avalanche(job, data, False)


def avalanche_at_its_best(job: Job, data: str) -> dict[str, float]:
    return _avalanche(job, data, True)


def _avalanche(job: Job, data: str, at_its_best: bool) -> dict[str, float]:
    import torch
    from theirs import run

    torch.set_num_threads(1)
    return run(job, data, at_its_best)


def bare_memory(job: Job, data: str) -> dict[str, float]:
    """What the job cannot do without: torch, its network, and the source's bytes read once."""
    import torch
    from plain import mlp

    from streamlab.data.source import load_source, open_shared, share

    shared = share(load_source("fashion-mnist", data))
    # A fresh peak: what reading and checking the files took is the parent's, not a worker's.
    source = open_shared(shared)
    Path("/proc/self/clear_refs").write_text("5")
    model = mlp()
    touched = int(source.train_images.sum()) + int(source.test_images.sum())
    assert touched
    assert sum(p.numel() for p in model.parameters())
    assert torch.get_num_threads()
    lines = Path("/proc/self/status").read_text().splitlines()
    return {"peak": 1024 * next(float(line.split()[1]) for line in lines if line.startswith("VmHWM"))}


def live_share(job: Job, data: str) -> dict[str, float]:
    """Wall seconds of the run alone, and under a live table with its run folder and checkpoints."""
    import io

    from rich.console import Console

    from streamlab.cli.view import LiveView
    from streamlab.data.source import load_source, open_shared, share
    from streamlab.runs.experiment import Request, prepare
    from streamlab.runs.folder import RunFolder
    from streamlab.simulator.execute import build, deterministic, drive, execute

    source = load_source("fashion-mnist", data)
    request = Request(
        scenario="class-incremental", strategies=("er",), seeds=1, eval_every=job.eval_every,
        settings={"scenario": job.scenario, "backbone": {"name": "mlp", "widths": [256]}},
    )  # fmt: skip
    prepared = prepare(request, source)
    (spec,) = prepared.specs
    shared = share(source)
    figures: dict[str, float] = {}
    for turn in range(2):  # the first warms up
        began = time.perf_counter()
        with deterministic():
            drive(build(spec, prepared.plans[0], open_shared(shared), lambda event: None, None))
        figures["alone"] = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / f"out-{turn}"
            prepared.create(out)
            console = Console(file=io.StringIO(), force_terminal=True, width=120)
            with LiveView(prepared, out, console) as view:
                began = time.perf_counter()
                assert execute(out / spec.folder, shared, lambda event: view.hear(spec, event))
                figures["watched"] = time.perf_counter() - began
            assert RunFolder(out / spec.folder).result
    return figures


PARTIES = {
    "plain": plain,
    "streamlab": streamlab,
    "avalanche": avalanche,
    "avalanche at its best": avalanche_at_its_best,
    "bare memory": bare_memory,
    "live share": live_share,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--party", choices=PARTIES, required=True)
    parser.add_argument("--job", choices=JOBS, required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    print(json.dumps(PARTIES[given.party](JOBS[given.job], given.data)))
