"""One turn of one party at one job, in a process of its own: prints its figures as JSON.

python tests/benchmarks/parties.py --party streamlab --job online-mlp --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
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
    """How much longer a run takes with folder, checkpoints and another process that shows it live.

    Both kinds in this process, in turn: two processes differ by more than what is measured.
    """
    import multiprocessing

    from streamlab.data.source import load_source, open_shared, share
    from streamlab.runs.experiment import prepare
    from streamlab.simulator import events
    from streamlab.simulator.execute import build, deterministic, drive, execute

    source = load_source("fashion-mnist", data)
    prepared = prepare(live_request(job), source)
    (spec,) = prepared.specs
    shared = share(source)
    alone, watched = [], []
    for _ in range(7):
        with deterministic():
            simulation = build(spec, prepared.plans[0], open_shared(shared), lambda event: None, None)
            began = time.perf_counter()
            drive(simulation)
            alone.append(time.perf_counter() - began)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            prepared.create(out)
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            viewer = context.Process(target=watch, args=(theirs, job, data, out))
            viewer.start()
            ours.recv()
            heard = {}

            def emit(event: events.Event, heard: dict = heard, send=ours.send_bytes) -> None:
                heard[type(event).__name__] = time.perf_counter()
                send(json.dumps(events.to_plain(event)).encode())

            assert execute(out / spec.folder, shared, emit)
            watched.append(heard["RunEnded"] - heard["RunStarted"])
            viewer.join()
    pairs = list(zip(alone, watched, strict=True))[1:]  # the first turn warms up
    return {"share": statistics.median(w / a - 1 for a, w in pairs), "turns": len(pairs)}


def live_request(job: Job):
    from streamlab.runs.experiment import Request

    settings = {"scenario": job.scenario, "backbone": {"name": "mlp", "widths": [256]}}
    return Request(
        "class-incremental", "fashion-mnist", ("er",), 1, eval_every=job.eval_every, settings=settings
    )


def watch(pipe, job: Job, data: str, out: Path) -> None:
    """The other process: a live table of what comes through the pipe."""
    import io

    from rich.console import Console

    from streamlab.cli.view import LiveView
    from streamlab.data.source import load_source
    from streamlab.runs.experiment import prepare
    from streamlab.simulator import events

    prepared = prepare(live_request(job), load_source("fashion-mnist", data))
    with LiveView(prepared, out, Console(file=io.StringIO(), force_terminal=True, width=120)) as view:
        pipe.send("ready")
        event: object = None
        while not isinstance(event, events.RunEnded):
            event = events.from_plain(json.loads(pipe.recv_bytes()))
            view.hear(prepared.specs[0], event)


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
