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

from jobs import JOBS, Job, cells_of


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

    from streamlab.data.load import load_source
    from streamlab.data.source import open_shared, share

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


STEPS = ("er", "er-ace", "der++", "ewc")


def steps(job: Job, data: str) -> dict[str, float]:
    """Seconds of learning steps alone, by strategy and party, taking turns in one process."""
    import torch
    from plain import run as run_plain
    from theirs import run as run_theirs

    torch.set_num_threads(1)
    figures: dict[str, list[float]] = {}
    for turn in range(5):
        for name in STEPS:
            figures.setdefault(f"{name} plain", []).append(run_plain(job, data, name)["train"])
            figures.setdefault(f"{name} streamlab", []).append(our_steps(job, data, name))
            if turn == 0:
                theirs = run_theirs(job, data, True, name)
                each = theirs["train"] / theirs["samples"]
                figures[f"{name} avalanche"] = [each * 10 * job.samples_per_class]
    return {name: statistics.median(column) for name, column in figures.items()}


def our_steps(job: Job, data: str, name: str) -> float:
    """Seconds that one run's steps take, what happens at the end of an experience left out."""
    from streamlab.data.load import load_source
    from streamlab.data.source import open_shared, share
    from streamlab.simulator import stream_simulation as simulation
    from streamlab.simulator.assembly import build
    from streamlab.simulator.execute import deterministic, drive

    settings = {"scenario": job.scenario, "backbone": {"name": "mlp", "widths": [256]}}
    source = load_source("fashion-mnist", data)
    (cell,) = cells_of(source, "class-incremental", name, eval_every=10**9, settings=settings)
    made = simulation.StreamSimulation
    spent: list[float] = []
    plain_end = made.end
    clocked(made, "end", spent)
    try:
        with deterministic():
            run = build(cell.spec, cell.plan, open_shared(share(source)), lambda event: None, None)
            drive(run)
    finally:
        made.end = plain_end
    return run.progress.train_seconds - sum(spent)


def live_share(job: Job, data: str) -> dict[str, float]:
    """Parts of a watched run's wall time: its own work for folder, checkpoints and events; the viewer's.

    Counted within one run, since two runs differ by more than is measured here.
    """
    import multiprocessing

    from streamlab.data.load import load_source
    from streamlab.data.source import share
    from streamlab.runs.folder import RunFolder
    from streamlab.simulator import events
    from streamlab.simulator import stream_simulation as simulation
    from streamlab.simulator.execute import execute

    spent: list[float] = []
    clocked(simulation.StreamSimulation, "checkpoint_if_due", spent)
    clocked(simulation.StreamSimulation, "emit", spent)
    clocked(simulation, "save_evaluation", spent)
    clocked(RunFolder, "write_result", spent)
    source = load_source("fashion-mnist", data)
    cell = live_cell(job, source)
    shared = share(source)
    shares = []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            RunFolder.create(out / cell.folder, cell.spec, cell.plan, cell.source.class_names)
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            viewer = multiprocessing.get_context("spawn").Process(target=watch, args=(theirs, job, data, out))
            viewer.start()
            ours.recv()
            spent.clear()
            began = time.perf_counter()

            def emit(event: events.Event, send=ours.send_bytes) -> None:
                send(json.dumps(events.to_plain(event)).encode())

            assert execute(out / cell.folder, shared, emit).complete
            seconds = time.perf_counter() - began
            shares.append((sum(spent) / seconds, ours.recv() / seconds))
            viewer.join()
    own, shown = (statistics.median(column) for column in zip(*shares[1:], strict=True))  # the first warms up
    return {"own": own, "viewer": shown, "turns": len(shares) - 1}


def clocked(owner, name: str, spent: list[float]) -> None:
    """Let a function add the seconds of each call to `spent`."""
    plain = getattr(owner, name)

    def timed(*given, **named):
        began = time.perf_counter()
        result = plain(*given, **named)
        spent.append(time.perf_counter() - began)
        return result

    setattr(owner, name, timed)


def live_cell(job: Job, source):
    settings = {"scenario": job.scenario, "backbone": {"name": "mlp", "widths": [256]}}
    (cell,) = cells_of(source, "class-incremental", "er", eval_every=job.eval_every, settings=settings)
    return cell


def watch(pipe, job: Job, data: str, out: Path) -> None:
    """The other process: a live table of what comes through the pipe; tells its seconds of processor time."""
    import io

    from rich.console import Console

    from streamlab.cli.views import LiveView
    from streamlab.data.load import load_source
    from streamlab.experiments.grid import Grid
    from streamlab.experiments.request import Request
    from streamlab.simulator import events

    cell = live_cell(job, load_source("fashion-mnist", data))
    grid = Grid(Request(), (cell.block,), {cell.block.scenario: {cell.block.budget: cell.spec.budget}})
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with LiveView(grid, "", out, console) as view:
        pipe.send("ready")
        began = time.process_time()
        event: object = None
        while not isinstance(event, events.RunEnded):
            event = events.from_plain(json.loads(pipe.recv_bytes()))
            view.hear(cell, event)
        pipe.send(time.process_time() - began)


PARTIES = {
    "plain": plain,
    "streamlab": streamlab,
    "avalanche": avalanche,
    "avalanche at its best": avalanche_at_its_best,
    "bare memory": bare_memory,
    "live share": live_share,
    "steps": steps,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--party", choices=PARTIES, required=True)
    parser.add_argument("--job", choices=JOBS, required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    print(json.dumps(PARTIES[given.party](JOBS[given.job], given.data)))
