"""Writes docs/benchmarks.md: every figure a ratio taken in one run, on the machine it names.

    make data bench

The parties of a job take turns, each in a process of its own with one thread, and medians over the
turns are compared. Needs the data folder, and avalanche-lib for Avalanche's rows. About 15 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import augmentation
import bridge
import compare
import episodes
import few_shot
import large
import prompts
from jobs import JOBS

HERE = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
GRID = ("finetune", "er", "slda", "joint")
GRID_SEEDS = 5
NAMES = {
    "plain": "a plain loop",
    "streamlab": "streamlab",
    "avalanche": "Avalanche 0.6 as it comes: pictures and transforms, its default evaluator",
    "avalanche at its best": "Avalanche 0.6 at its best: one tensor normalised ahead, one metric, no logger",
}
Turns = dict[str, list[dict[str, float]]]


def measure(party: str, job: str, data: str) -> dict[str, float]:
    """One turn of one party."""
    command = [sys.executable, HERE / "parties.py", "--party", party, "--job", job, "--data", data]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{party} failed at {job}:\n{done.stderr[-2000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    print(job, party, {name: round(value, 3) for name, value in figures.items()}, file=sys.stderr)
    return figures


def take_turns(job: str, data: str, turns: int) -> Turns:
    """Every party's figures; Avalanche, which is slow, has two turns."""
    parties = ["plain", "streamlab"] + (
        ["avalanche", "avalanche at its best"] if JOBS[job].avalanche_samples else []
    )
    taken: Turns = {party: [] for party in parties}
    for turn in range(turns):
        for party in parties:
            if not party.startswith("avalanche") or turn < 2:
                taken[party].append(measure(party, job, data))
    return taken


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median over the turns of one party's figure over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=False))


def section(job: str, turns: Turns) -> list[str]:
    """One job's table and its ratios."""
    chosen = JOBS[job]

    def seconds(party: str, *parts: str) -> list[float]:
        return [sum(turn[part] for part in parts) / turn["samples"] for turn in turns[party]]

    def speed(party: str, *parts: str) -> float:
        return 1 / statistics.median(seconds(party, *parts))

    def ratio(party: str, *parts: str) -> float:
        return median_ratio(seconds(party, *parts), seconds("streamlab", *parts))

    points = f"every {chosen.eval_every:,} samples" if chosen.eval_every else "at task ends"
    rows = []
    for party in turns:
        both = ("train", "evaluate")
        cells = [NAMES[party], f"{speed(party, 'train'):,.0f}", f"{speed(party, *both):,.0f}"]
        if party == "streamlab":
            cells += ["", "", ""]
        else:
            cells += [
                f"{ratio(party, 'train'):.2f}",
                f"{ratio(party, 'evaluate'):.2f}",
                f"{ratio(party, *both):.2f}",
            ]
        rows.append("| " + " | ".join(cells) + " |")
    accuracies = ", ".join(
        f"{party} {statistics.median(turn['accuracy'] for turn in turns[party]):.3f}"
        for party in ("plain", "streamlab")
    )
    part = chosen.avalanche_samples
    note = f" Avalanche is timed over the first {part:,} samples of the same stream." if part else ""
    return [
        f"## {chosen.title}",
        "",
        f"{10 * chosen.samples_per_class:,} samples, 500 exemplars, the exposed classes evaluated {points}; "
        f"medians of {len(turns['plain'])} turns.{note}",
        "",
        "| | training, samples/s | with evaluations | streamlab is faster in training | in evaluation | in both |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"Final accuracies, to see that the work is the same: {accuracies}.",
        "",
    ]


def steps_section(figures: dict[str, float]) -> list[str]:
    """A row a method: microseconds of a step, plain, ours and Avalanche's."""
    from parties import STEPS

    job = JOBS["steps"]
    count = 10 * job.samples_per_class / job.batch
    lines = [
        f"## {job.title}",
        "",
        f"Microseconds a step, over {10 * job.samples_per_class:,} samples; medians of 5 turns taken in one process. The end of an",
        f"experience (EWC's Fisher) is left out; Avalanche over the first {job.avalanche_samples:,} samples, one turn.",
        "",
        "| | a plain loop | streamlab | plain / streamlab | Avalanche 0.6 at its best | Avalanche / streamlab |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name in STEPS:
        plain, ours, theirs = (figures[f"{name} {party}"] for party in ("plain", "streamlab", "avalanche"))
        cells = [f"`{name}`", *(f"{1e6 * seconds / count:,.0f}" for seconds in (plain, ours))]
        cells += [f"{plain / ours:.2f}", f"{1e6 * theirs / count:,.0f}", f"{theirs / ours:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def grid(data: str) -> tuple[float, float]:
    """Wall seconds: four strategies x five seeds in one command, and as plain scripts in turn."""
    job = JOBS["online-mlp"]
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("streamlab"), "run", "class-incremental"]
        command += ["--source", "fashion-mnist", "--data", data, "--out", Path(folder) / "out"]
        command += ["--seeds", str(GRID_SEEDS), "--eval-every", str(job.eval_every)]
        command += [part for strategy in GRID for part in ("--strategy", strategy)]
        command += ["--set", "scenario.class_order=sorted", "--set", f"optimizer.lr={job.rate}"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        ours = time.perf_counter() - began
    began = time.perf_counter()
    for strategy in GRID:
        for seed in range(GRID_SEEDS):
            script = [sys.executable, HERE / "plain.py", "--strategy", strategy, "--seed", str(seed)]
            subprocess.run([*script, "--data", data], check=True, capture_output=True)
    plain = time.perf_counter() - began
    print("grid", round(ours, 1), round(plain, 1), file=sys.stderr)
    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument(
        "--only",
        choices=("prompts", "few-shot", "episodes", "compare", "bridge", "answers", "augmentation", "large"),
        help="take one section anew, and leave the others",
    )
    given = parser.parse_args()
    if given.only:
        sections = {"prompts": prompts.section, "few-shot": few_shot.section}
        sections["episodes"] = lambda: episodes.section(given.data)
        sections["compare"] = compare.section
        sections |= {"bridge": bridge.section, "answers": answers, "augmentation": augmentation.section}
        sections["large"] = large.section
        lines = sections[given.only]()
        print("\n".join(lines))
        if given.write:
            replace_section(given.write, lines)
        return
    lines = head()
    for job in JOBS:
        if job == "steps":
            continue
        lines += section(job, take_turns(job, given.data, given.turns if job != "offline-convnet" else 3))
    lines += steps_section(measure("steps", "steps", given.data))
    lines += prompts.section() + few_shot.section() + episodes.section(given.data)
    lines += compare.section() + bridge.section() + augmentation.section() + large.section()
    lines += whole_commands(*grid(given.data)) + answers()
    live = measure("live share", "online-mlp", given.data)
    memory = [
        (measure("streamlab", "online-mlp", given.data), measure("bare memory", "online-mlp", given.data))
        for _ in range(2)
    ]
    lines += overheads(live, memory)
    text = "\n".join(lines)
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")


def replace_section(page: Path, lines: list[str]) -> None:
    """Put one section in the place of that with its heading, or before the last but two."""
    parts = page.read_text(encoding="utf-8").split("\n## ")
    fresh = "\n".join(lines).removeprefix("## ")
    heading = fresh.partition("\n")[0]
    places = [number for number, part in enumerate(parts) if part.startswith(heading)]
    if places:
        parts[places[0]] = fresh
    else:
        parts.insert(len(parts) - 3, fresh)
    page.write_text("\n## ".join(parts), encoding="utf-8")


def answers() -> list[str]:
    """Commands that need no torch: wall seconds, each in a process of its own, beside an import of torch."""
    command = str(Path(sys.executable).with_name("streamlab"))
    asked = {
        "`streamlab --help`": [command, "--help"],
        "`streamlab runs list`": [command, "runs", "list"],
        "`streamlab run --strategy err`, a mistyped name": [command, "run", "--strategy", "err"],
        "`python -c 'import torch'`": [sys.executable, "-c", "import torch"],
    }
    lines = [
        "## Commands that answer at once",
        "",
        "Wall time of a process from start to end, medians of 9 turns; they import no torch.",
        "",
        "| | seconds |",
        "| --- | ---: |",
    ]
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(9):
        for name, arguments in asked.items():
            began = time.perf_counter()
            subprocess.run(arguments, capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - began)
    lines += [f"| {name} | {statistics.median(taken):.2f} |" for name, taken in seconds.items()]
    return [*lines, ""]


def head() -> list[str]:
    import torch

    return [
        "# Benchmarks",
        "",
        "Written by `make data bench`; do not edit. What counts is the ratios, each taken in one run: above 1,",
        "streamlab is faster.",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} processors, {platform.system()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}. Fashion-MNIST in five tasks of two",
        "classes, SGD; one thread each. On a GPU: not measured yet.",
        "",
    ]


def whole_commands(ours: float, plain: float) -> list[str]:
    return [
        f"## Four strategies x {GRID_SEEDS} seeds, as a person waits for them",
        "",
        f"{', '.join(f'`{name}`' for name in GRID)} on the online stream above, evaluated every 4,000 samples; wall",
        "time from start to end. The plain scripts run one after another, a fresh process each with torch's",
        "default threads.",
        "",
        "| | seconds |",
        "| --- | ---: |",
        f"| one `streamlab run` | {ours:.0f} |",
        f"| {len(GRID) * GRID_SEEDS} plain scripts | {plain:.0f} |",
        "",
        f"streamlab is {plain / ours:.1f} times faster.",
        "",
    ]


def overheads(live: dict[str, float], memory: list[tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    held = statistics.median(ours["peak"] / bare["peak"] for ours, bare in memory)
    mib = statistics.median(ours["peak"] for ours, _ in memory) / 2**20
    return [
        "## What the comfort costs",
        "",
        "Of the online job's wall time, its own work for run folder, checkpoints and events takes "
        f"{100 * live['own']:.1f} %, and the",
        f"live table in another process {100 * live['viewer']:.1f} % of one processor (medians of "
        f"{live['turns']:.0f} runs, counted within each).",
        "",
        f"Peak memory of the worker: {mib:.0f} MiB, {held:.2f} times that of a process that imports torch, builds",
        "the network and reads the source's bytes (which all workers share).",
        "",
        "## Others, quoted",
        "",
        "Not measured here; from design notes on a machine of the same kind (2 cores, torch 2.15): Mammoth",
        "(2026-05) about 4,600 samples/s in the online job, where a plain loop had 12,000, and about 7 s in the",
        "offline job, where it had 1.4 s; `--help` takes Mammoth 7 s and importing Avalanche 4.7 s.",
        "",
    ]


if __name__ == "__main__":
    main()
