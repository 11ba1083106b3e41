"""One run's folder on disk: spec, events, evaluations, checkpoints, result.

    run.json        the spec, versions and machine        plan.safetensors   the plan
    events.jsonl    what happened, cut at the checkpoint   evaluations/       predictions
    checkpoint-*    the last two states                    result.json        when complete

Everything but the event log is written under a temporary name, flushed to disk and renamed. Plans and
evaluations are imported where they are read: a list of runs needs no numpy.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import CorruptFile
from ..files import locked, write_json
from .checkpoints import load_checkpoint, remove_checkpoints
from .identity import identity
from .seals import digest_of, read_sealed, write_sealed
from .spec import RunSpec

if TYPE_CHECKING:
    from ..evaluation.episode_record import EpisodeRecord
    from ..evaluation.record import Record
    from ..plans.stream import Plan
    from ..strategy import Strategy


def provenance() -> dict[str, Any]:
    """Versions and machine: what a result's bits may depend on."""
    packages = {}
    for name in ("streamlab-cl", "torch", "numpy", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "unknown"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": 1,
        "layout": "channels-last for convolutions",
        "sgd": "streamlab",
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log: IO[bytes] | None = None
        self._log_seal = hashlib.sha256()

    @staticmethod
    def create(
        path: Path,
        spec: RunSpec,
        plan: Plan,
        class_names: Sequence[str],
        strategy: type[Strategy] | None = None,
    ) -> RunFolder:
        """Make the folder, its plan and run.json; what is there already is left as it is.

        class_names: the source's. strategy: the class itself, where it has no importable name.
        """
        (path / "evaluations").mkdir(parents=True, exist_ok=True)
        if not (path / "run.json").exists():
            plan.save(path / "plan.safetensors")
            made_with = provenance()
            follows_from = identity(spec, made_with, strategy)
            content = {"spec": spec.to_plain(), "provenance": made_with, "identity": follows_from}
            write_sealed(path / "run.json", {**content, "class_names": list(class_names)})
        return RunFolder(path)

    @property
    def about(self) -> dict[str, Any]:
        """run.json: spec, provenance, what the result follows from, class names; raises CorruptFile."""
        try:
            return read_sealed(self.path / "run.json")
        except FileNotFoundError:
            raise CorruptFile(f"{self.path} holds no run: there is no run.json") from None

    @property
    def spec(self) -> RunSpec:
        """The spec in run.json; raises CorruptFile."""
        try:
            return RunSpec.from_plain(self.about["spec"])
        except (KeyError, TypeError) as error:
            raise CorruptFile(f"{self.path / 'run.json'} is not a run: {error}") from None

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json, or None while the run is not complete; raises CorruptFile."""
        path = self.path / "result.json"
        try:
            content = read_sealed(path)
        except FileNotFoundError:
            return None
        if not {"metrics", "seals"} <= content.keys():
            raise CorruptFile(f"{path} is damaged: it is no result")
        return content

    @property
    def failure(self) -> str | None:
        """Why the run stopped, where it failed."""
        path = self.path / "failure.json"
        try:
            return str(json.loads(path.read_text("utf-8"))["message"]) if path.exists() else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{path} is damaged: {error}; remove it") from None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result, and in it the seals of all other files of the run."""
        seals = {name: digest_of(self.path / name) for name in self._sealed()}
        write_sealed(self.path / "result.json", {**result, "seals": seals})
        self.forget_failure()
        remove_checkpoints(self.path)

    def _sealed(self) -> list[str]:
        """The files, by name, that a complete run's result seals."""
        names = ["run.json", "plan.safetensors", "events.jsonl", "network.safetensors", "network.md"]
        there = [name for name in names if (self.path / name).exists()]
        return there + [f"evaluations/{path.name}" for path in self._evaluation_paths(None)]

    def damage(self) -> str | None:
        """What of a complete run is not as it was written, in words; None where all is, or it is not done."""
        try:
            result = self.result
        except CorruptFile as error:
            return str(error)
        if result is None:
            return None
        seals = result["seals"]
        for name in [*seals, *self._sealed()]:
            if name not in seals or digest_of(self.path / name) != seals[name]:
                what = "is damaged" if (self.path / name).exists() else "is missing"
                return f"{self.path / name} {what}"
        return None

    def check(self) -> None:
        """Raise CorruptFile where a run is not as it was written (until its checkpoint, if not done)."""
        checkpoint = load_checkpoint(self.path)
        if checkpoint is not None:
            progress = checkpoint.progress
            other = self.differs(progress["seals"], progress["log_length"], progress["log_seal"])
            if other is not None:
                raise CorruptFile(f"{other} is damaged; streamlab resume goes on from before it")
        found = self.damage()
        if found is not None:
            raise CorruptFile(f"{found}; streamlab resume runs it again, and keeps this in superseded/")

    def write_failure(self, message: str) -> None:
        write_json(self.path / "failure.json", {"message": message})

    def forget_failure(self) -> None:
        (self.path / "failure.json").unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; raises StreamlabError where another has it."""
        with locked(self.path):
            yield

    # Events

    def open_log(self, length: int) -> None:
        """Open the event log and cut it at `length` bytes, where the checkpoint was taken."""
        path = self.path / "events.jsonl"
        self._log = path.open("r+b" if path.exists() else "w+b")
        self._log.truncate(length)
        self._log.seek(0)
        self._log_seal = hashlib.sha256(self._log.read())

    def log(self, plain: Mapping[str, Any]) -> None:
        """Append one event."""
        assert self._log is not None
        line = (json.dumps(plain) + "\n").encode()
        self._log.write(line)
        self._log.flush()
        self._log_seal.update(line)

    def log_length(self) -> int:
        """Bytes in the log, made durable."""
        if self._log is None:
            return 0
        os.fsync(self._log.fileno())
        return self._log.tell()

    def log_seal(self) -> str:
        """SHA-256 of the log as it is now."""
        return self._log_seal.hexdigest()

    def differs(self, evaluations: Sequence[str], log_length: int, log_seal: str) -> str | None:
        """The file that is not as a checkpoint has it; None where all are. evaluations: the seal of each."""
        for number, seal in enumerate(evaluations):
            if digest_of(self.evaluation_path(number)) != seal:
                return str(self.evaluation_path(number))
        log = self.path / "events.jsonl"
        return str(log) if digest_of(log, log_length) != log_seal else None

    def close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of the event log; raises CorruptFile."""
        path = self.path / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise CorruptFile(f"{path} is damaged: {error}") from None

    # Evaluations

    def evaluation_path(self, number: int) -> Path:
        return self.path / "evaluations" / f"{number:06}.safetensors"

    def record(self) -> Record | EpisodeRecord:
        """The plan and all evaluations, as they were written; raises CorruptFile."""
        self.check()
        return self.episode_record() if self.plan().kind == "episodes" else self.stream_record()

    def stream_record(self, count: int | None = None) -> Record:
        """Of a stream or of sessions; the first `count` evaluations (all of them by default)."""
        from ..evaluation.record import Record, load_evaluation
        from ..plans.stream import StreamPlan

        plan, ceiling = StreamPlan.load(self._plan_path), self.spec.ceiling
        evaluations = tuple(load_evaluation(path, plan.num_classes) for path in self._evaluation_paths(count))
        return Record(plan.merged() if ceiling else plan, evaluations, ceiling, self._name)

    def episode_record(self, count: int | None = None) -> EpisodeRecord:
        """Of episodes; the first `count` evaluations (all of them by default)."""
        from ..evaluation.episode_record import EpisodeRecord, load_episode_evaluation
        from ..plans.episodes import EpisodePlan

        evaluations = tuple(load_episode_evaluation(path) for path in self._evaluation_paths(count))
        return EpisodeRecord(EpisodePlan.load(self._plan_path), evaluations, self._name)

    def plan(self) -> Plan:
        """The plan of the run; raises CorruptFile."""
        from ..plans.stream import load_plan

        return load_plan(self._plan_path)

    @property
    def _plan_path(self) -> Path:
        return self.path / "plan.safetensors"

    @property
    def _name(self) -> str:
        return "/".join(self.path.parts[-2:])

    def _evaluation_paths(self, count: int | None) -> list[Path]:
        return sorted((self.path / "evaluations").glob("*.safetensors"))[:count]
