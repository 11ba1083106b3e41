"""Executes one run folder: builds what its spec says, drives it, writes its result.

This is all that a worker does; `streamlab run`, `resume` and the Python API end here.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data.source import open_shared
from ..device import device_here
from ..errors import StreamlabError
from ..evaluation.episode_record import EpisodeRecord
from ..evaluation.metrics import measure
from ..evaluation.record import Record, accuracy_matrix
from ..randomness import global_randomness
from ..runs.folder import RunFolder
from ..strategy import Strategy
from . import events
from .assembly import build
from .episode_simulation import EpisodeSimulation
from .episodes import run_episodes
from .online import run_online
from .resources import peak_memory, reset_peak_memory
from .sessions import run_sessions
from .simulation import Simulation
from .stream_simulation import StreamSimulation
from .surroundings import put_back_after


class Executed(NamedTuple):
    """complete: whether a run has a result; clean: whether it left its process as it found it."""

    complete: bool
    clean: bool


def execute(
    path: Path, shared: Path, emit: events.Listener, strategy: type[Strategy] | None = None
) -> Executed:
    """Run or resume the run in this folder to its end.

    A mistake of the strategy, a full disk or a budget overrun ends in a RunFailed event and a
    failure.json, never in an exception: the run can be resumed, and its neighbours go on. So does a run
    that leaves a setting of its process, or a function of torch's, otherwise than it found it.
    `strategy` is the class itself where it has no importable name.
    """
    folder = RunFolder(path)
    simulation: StreamSimulation | EpisodeSimulation | None = None
    label, changed = path.parent.name, list[str]()
    try:
        with folder.lock():
            spec = folder.spec
            label = spec.label
            folder.forget_failure()
            with deterministic(spec.device), global_randomness(spec.seed, "run"):
                with put_back_after(changed):
                    simulation = build(spec, folder.plan(), open_shared(shared), emit, folder, strategy)
                    drive(simulation)
                if changed:
                    raise StreamlabError(_left(changed))
                emit(_finish(simulation, folder))
        return Executed(complete=True, clean=True)
    except StreamlabError as error:
        message = _sentence(label, str(error), simulation)
    except SystemExit as error:
        message = _sentence(
            label, f"it asked for the end of its process (sys.exit({error.code!r}))", simulation
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"{label}: the disk is full at {path}; free some space and resume"
        else:
            where = _own_line(error)
            message = _sentence(label, f"raised {type(error).__name__}: {error} ({where})", simulation)
            _keep_traceback(folder)
    finally:
        folder.close_log()
    if changed and _left(changed) not in message:
        message = f"{message}; {_left(changed)}"
    _keep_failure(folder, message)
    emit(events.RunFailed(message))
    return Executed(complete=False, clean=not changed)


def drive(simulation: StreamSimulation | EpisodeSimulation) -> None:
    """Run a built simulation to its end."""
    reset_peak_memory(simulation.device)
    simulation.start()
    if isinstance(simulation, EpisodeSimulation):
        run_episodes(simulation)
    elif simulation.plan.kind == "online":
        run_online(simulation)
    else:
        run_sessions(simulation)
    simulation.keep_features()
    peak = peak_memory(simulation.device)
    simulation.progress.peak_memory = max(simulation.progress.peak_memory, peak)


def _finish(simulation: StreamSimulation | EpisodeSimulation, folder: RunFolder) -> events.RunEnded:
    progress, record = simulation.progress, simulation.record()
    metrics, not_defined = measure(record)
    resources = {
        "train_seconds": progress.train_seconds,
        "evaluation_seconds": progress.evaluation_seconds,
        "samples_per_second": progress.samples_seen / max(progress.train_seconds, 1e-9),
        "flops_per_step": progress.flops_per_step,
        "flops": progress.flops,
        "peak_memory_bytes": float(progress.peak_memory),
        "held_bytes": float(sum(progress.held.values())),
        "survey_bytes": float(progress.survey_bytes),
        "exemplars": float(progress.exemplars),
        "samples_lost": float(simulation.lost),
        "granted_flops_per_sample": record.plan.clock.operations if isinstance(record, Record) else 0.0,
    }
    if "network" in folder.spec.record:
        from ..trained import write_network

        write_network(folder, simulation.strategy, metrics)
    event = events.RunEnded(metrics, not_defined, resources)
    folder.log(events.to_plain(event))
    folder.write_result(
        {
            "metrics": metrics,
            "not_defined": not_defined,
            "resources": resources,
            "held": progress.held,
            **_details(record),
            "base": _base(simulation, record),
            "transductive": simulation.strategy.needs.transductive,
            "bit_reproducible": simulation.device.type == "cpu",
        }
    )
    return event


def _details(record: Record | EpisodeRecord) -> dict[str, Any]:
    """What a result holds beside metrics, of a stream or of episodes."""
    if isinstance(record, Record):
        return {
            "class_accuracy": [_plain(value) for value in record.evaluations[-1].class_accuracy],
            "accuracy_matrix": [[_plain(value) for value in row] for row in accuracy_matrix(record)],
        }
    tests = {"clean": record.tested(), **record.environments}
    return {
        "episodes": {
            name: dataclasses.asdict(tested.interval) for name, tested in tests.items() if tested is not None
        }
    }


def _base(
    simulation: StreamSimulation | EpisodeSimulation, record: Record | EpisodeRecord
) -> dict[str, Any] | None:
    """How the network of a base session came to be; with what papers report of it, where it was asked for."""
    base = simulation.progress.base
    if base is None or not simulation.strategy.setting.base.paper_compat or isinstance(record, EpisodeRecord):
        return base
    by_prototypes = 100 * record.at_task_ends[0].accuracy
    return {**base, "session_0_as_the_papers_report": max(base["accuracy"], by_prototypes)}


def _plain(value: Any) -> float | None:
    return None if value != value else float(value)


@contextmanager
def deterministic(device: str = "cpu") -> Iterator[None]:
    """One thread, and on a GPU deterministic algorithms; restored after.

    An operation that has none there raises, with its name: with a warning alone, attention's gradient would
    not be the same twice. Memory is not filled before it is used, since nothing reads it unwritten. On a CPU
    all this changes nothing, and asking costs an import of 1 s.
    """
    threads, on_gpu = torch.get_num_threads(), device_here(device).type == "cuda"
    torch.set_num_threads(1)
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        before = torch.are_deterministic_algorithms_enabled()
        only = torch.is_deterministic_algorithms_warn_only_enabled()
        memory: Any = torch.utils.deterministic
        filled = memory.fill_uninitialized_memory
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if on_gpu:
            torch.use_deterministic_algorithms(before, warn_only=only)
            memory.fill_uninitialized_memory = filled


def _left(changed: list[str]) -> str:
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return (
        f"it leaves {', '.join(changed[:3])}{more} otherwise than it found them, by which other runs of this "
        f"process would compute"
    )


def _sentence(label: str, problem: str, simulation: Simulation | None) -> str:
    if problem.startswith(f"{label}: "):
        return problem
    if simulation is None or simulation.progress.steps == 0:
        return f"{label}: {problem}"
    progress = simulation.progress
    return f"{label}: {problem}; experience {max(progress.started, 1)}, step {progress.steps}"


def _own_line(error: Exception) -> str:
    """The innermost line of the plugin, else of anyone, in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if "/torch/" not in f.filename and "/streamlab/" not in f.filename]
    frame = (outside or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _keep_traceback(folder: RunFolder) -> None:
    try:
        (folder.path / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        return


def _keep_failure(folder: RunFolder, message: str) -> None:
    try:
        folder.write_failure(message)
    except OSError:
        return
