"""What a strategy asks of an accelerator, found without one: in a process of its own, on a pretended device.

python -m streamlab.check.accelerator er er-ace --lines
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StreamlabError

if TYPE_CHECKING:
    from .subject import Subject

KINDS = ("launch", "slow", "to device", "to host", "wait")
"""Launches of kernels; those of kernels that sort, to be deterministic; copies; waits of the host."""


@dataclass(frozen=True)
class Asked:
    """What one strategy asked for on the tiny stream.

    phases: of a call of each phase (step, begin, end, evaluation), its KINDS, a mean; lines: of each phase,
    what copied or waited, and how often in all. unstable: operations without a deterministic kernel, and
    where. fault: why it does not run there, or ends with other bits once resumed; nothing where it does not.
    """

    strategy: str
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unstable: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fault: str = ""


def ask(names: Sequence[str]) -> list[Asked]:
    """Of each strategy (a name, or a file with options), from a process of its own.

    Raises StreamlabError where that process fails: this torch can pretend no device, or a plugin ended it.
    """
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "asked.jsonl"  # a plugin may print what it likes
        command = [sys.executable, "-m", "streamlab.check.accelerator", *names, "--json", str(told)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    if done.returncode or len(lines) != len(names):
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise StreamlabError(f"the process with the pretended accelerator failed: {last[0]}")
    return [Asked(**json.loads(line)) for line in lines]


def examine(name: str) -> Asked:
    """A whole run on the pretended device, and one that is killed and resumed. Makes the device."""
    from . import pretended
    from .subject import Subject

    subject = replace(Subject.named(name), device=pretended.DEVICE)
    tally = pretended.tally
    tally.clear()
    fault = ""
    try:
        with pretended.Pretended():
            fault = _resumes(subject)
    except Exception as error:
        line = getattr(error, "line", "")
        fault = f"{error}" + (f" ({line})" if line else "")
    phases = {
        phase: {kind: round(counts[kind] / max(1, tally.calls[phase]), 1) for kind in KINDS}
        for phase, counts in tally.counts.items()
    }
    lines = {phase: dict(found.most_common()) for phase, found in tally.lines.items()}
    return Asked(name, phases, lines, {op: sorted(at) for op, at in tally.unstable.items()}, fault)


def _resumes(subject: Subject) -> str:
    """Why a run that is killed and resumed ends otherwise than a whole one; nothing where it does not."""
    from ..plans.stream import StreamPlan
    from ..runs.folder import RunFolder
    from .probes import KilledHalfWay
    from .subject import Killed, difference, state_of

    whole = state_of(subject.run(seed=1, watch=_phases()).strategy)
    if subject.strategy.accounting.begins_anew:
        return ""
    plan = subject.plan()
    if subject.strategy.learns_jointly and isinstance(plan, StreamPlan):
        plan = plan.merged()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place) / "run", subject.spec(plan), plan, (), subject.strategy)
        with suppress(Killed):
            subject.run(seed=1, plan=plan, folder=folder, watch=KilledHalfWay)
        folder.close_log()
        resumed = subject.run(seed=1, plan=plan, folder=folder)
        folder.close_log()
    name = difference(whole, state_of(resumed.strategy))
    return "" if name is None else f"resumed, it ends with another {name} than unbroken"


def _phases() -> type[Any]:
    """What names the phases of a run for the tally."""
    from .pretended import tally
    from .subject import Watch

    names = {
        "learn": "step", "begin": "begin", "end": "end", "_take_predictions": "evaluation",
        "_judge": "evaluation", "_train_base": "base", "flush_numbers": "flush",
    }  # fmt: skip

    def named(method: str, phase: str) -> Any:
        def call(self: Any, *given: Any) -> Any:
            before, tally.phase = tally.phase, phase
            tally.calls[phase] += 1
            try:
                return getattr(super(phased, self), method)(*given)
            finally:
                tally.phase = before

        return call

    phased: type[Any] = type(
        "Phased", (Watch,), {method: named(method, phase) for method, phase in names.items()}
    )
    return phased


def main() -> None:
    """Print what each strategy asks for, a line a phase; with --lines what copied and what waited too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="to be read by a program: an object a line")
    given = parser.parse_args()
    for name in given.names:
        asked = examine(name)
        if given.json:
            with given.json.open("a", encoding="utf-8") as file:
                print(json.dumps(asdict(asked)), file=file)
        print(f"{name}: {asked.fault or 'same bits after resume'}", flush=True)
        for phase, counts in asked.phases.items():
            print(f"  {phase:<12}", ", ".join(f"{kind} {counts[kind]:g}" for kind in KINDS))
            for line, times in list(asked.lines.get(phase, {}).items())[: 12 if given.lines else 0]:
                print(f"      {times:5} {line}")
        for operation, places in asked.unstable.items():
            print(f"  no deterministic kernel: {operation} at {', '.join(places)}")


if __name__ == "__main__":
    main()
