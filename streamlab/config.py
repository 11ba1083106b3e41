"""Text from a person becomes typed values: sections, `a.b=c` settings, budgets."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import StreamlabError, unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Tree = dict[str, Any]

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

# What a run can be asked to keep beside the rest (`--record`), and what it is for.
RECORDABLE = {
    "unexposed": "predictions without the class mask, before training and for classes not yet seen",
    "neighbours": "distances to the nearest of 1,000 training samples, by feature",
    "arrivals": "predictions of a stream's samples as they arrive, and of those that lie ahead",
    "geometry": "how classes lie in feature space: ICNN score, intra/inter ratio, neural collapse",
    "network": "the trained network, for streamlab.load_network",
}


_MOST = {"batch_size": 1_000_000, "updates_per_batch": 10_000, "epochs": 1_000_000}


@dataclass(frozen=True)
class StreamConfig:
    """How a stream is served to every strategy: the same batches for all.

    batch_size: samples of a batch, or episodes (not given: 10 samples, 1 episode).
    """

    batch_size: int | None = None
    updates_per_batch: int = 1
    epochs: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                at_least("stream", name, value, 1)
                if value > _MOST[name]:
                    raise StreamlabError(f"stream: {name} is {value}, and must be at most {_MOST[name]:,}")


@dataclass(frozen=True)
class ComputeConfig:
    """How it is computed. precision: of a backbone's passes (half precision changes results, and is
    for GPUs). cache: the most that may be kept of test images whose features or queries never
    change (`0`: nothing is kept; results are the same).
    """

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    cache: str = "1GiB"

    def __post_init__(self) -> None:
        if parse_budget(self.cache).bytes is None:
            raise StreamlabError(f"compute: cache is {self.cache!r}, and should be bytes, as 256MiB")

    @property
    def cache_bytes(self) -> int:
        return parse_budget(self.cache).bytes or 0


@dataclass(frozen=True)
class ClockConfig:
    """What a stream grants with each sample, to every strategy alike, and how late labels are.

    operations: that it grants a sample, as `2x` (of what plain fine-tuning of the comparison's network takes)
    or `3e9` (none: as many as a strategy takes). beyond: what becomes of a strategy that takes more: samples
    pass `unseen` while it computes, or it takes `fewer-updates`. delay: batches by which labels come after
    their images.
    """

    operations: str = ""
    beyond: Literal["unseen", "fewer-updates"] = "unseen"
    delay: int = 0

    def __post_init__(self) -> None:
        at_least("clock", "delay", self.delay, 0)
        if not self.operations and self.beyond != "unseen":
            raise StreamlabError(
                f"clock: beyond is {self.beyond}, and operations, which it is of, is not given"
            )
        if self.operations and self.granted(1.0) <= 0:
            raise StreamlabError(f"clock: operations is {self.operations}; nothing can be learned of that")

    def granted(self, plain: float) -> float:
        """Operations a sample, where plain fine-tuning takes so many; raises StreamlabError."""
        number, times = self.operations.removesuffix("x"), self.operations.endswith("x")
        try:
            found = float(number)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise StreamlabError(
                f"clock: operations is {self.operations!r}, and should be 2x (of plain fine-tuning) or 3e9"
            )
        return found * plain if times else found


Accounting = Literal["held", "survey"]


@dataclass(frozen=True)
class Budget:
    """What a strategy may hold: bytes in all, or a number of exemplars. Both None: unbounded.

    accounting: what counts as a byte (streamlab.memory.ledger): all that is held while learning, or the
    survey's. count_frozen: whether a backbone that nobody trains counts.
    """

    bytes: int | None = None
    exemplars: int | None = None
    accounting: Accounting = "held"
    count_frozen: bool = True

    @property
    def size(self) -> int:
        """For order: its bytes, or its exemplars."""
        return self.bytes or self.exemplars or 0

    def __str__(self) -> str:
        if self.bytes is not None:
            return readable_bytes(self.bytes) + (" (survey)" if self.accounting == "survey" else "")
        return "unbounded" if self.exemplars is None else f"{self.exemplars}ex"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high that a tuner may try: on a logarithmic scale, unless it is told otherwise."""

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True)
class Choice:
    """The values that a tuner may try."""

    values: tuple[Any, ...]


Searched = Range | Choice


def parse_budget(text: str) -> Budget:
    """`2MiB`, `500kB`, `1048576` (bytes) or `500ex` (exemplars); `none` is unbounded."""
    if text.strip().lower() in ("none", "unbounded"):
        return Budget()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = match[2].lower() if match else ""
    if match and unit == "ex" and "." not in match[1]:
        return Budget(exemplars=int(match[1]))
    if match and (unit or "b") in _UNITS:
        return Budget(bytes=int(float(match[1]) * _UNITS[unit or "b"]))
    raise StreamlabError(f"budget {text!r} is not understood; write 2MiB, 500kB or 500ex")


def readable_bytes(count: float) -> str:
    """1.9 MiB, 392 KiB, 12 B: at most four digits and a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def at_least(where: str, name: str, value: float, least: float) -> None:
    """Refuse a value that is too small, by name."""
    if value < least:
        raise StreamlabError(f"{where}: {name} is {value}, and must be at least {least}")


def within(where: str, name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside low..high, by name."""
    if not low <= value <= high:
        raise StreamlabError(f"{where}: {name} is {value}, and must lie in {low}..{high}")


def configure(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from named values, strings included.

    Raises StreamlabError naming `where` for an unknown option (the nearest one is offered) or
    for a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {field.name for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    settled: Tree = {}
    for name, value in values.items():
        if name not in known:
            raise unknown(f"option of {where}", name, known)
        if isinstance(value, str) and _is_row(hints[name]):
            value = [part.strip() for part in value.split(",") if part.strip()]
        try:
            settled[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Input should be ").split(", unable to")[0]
            raise StreamlabError(f"{where}: {name} is {value!r}, and should be {problem}") from None
        if isinstance(settled[name], float) and not math.isfinite(settled[name]):
            raise StreamlabError(f"{where}: {name} is {value!r}, and should be a finite number")
    for field in dataclasses.fields(cls):
        without_default = field.default is field.default_factory is dataclasses.MISSING
        if without_default and field.init and field.name not in settled:
            raise StreamlabError(f"{where}: {field.name} is not given")
    return cls(**settled)


def _is_row(hint: Any) -> bool:
    """Whether an option is a row of values, or none, so that text is cut at commas."""
    kinds = (hint,) if get_origin(hint) is tuple else get_args(hint)
    return any(get_origin(kind) is tuple for kind in kinds) and str not in kinds


def parse_settings(settings: Iterable[str]) -> Tree:
    """`["stream.batch_size=10"]` as a nested tree; values stay text until they meet a type."""
    tree: Tree = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts) or len(parts) < 2:
            raise StreamlabError(f"--set {setting}: write SECTION.OPTION=VALUE, as stream.batch_size=10")
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise StreamlabError(f"--set {setting}: {part} has a value already")
        node[parts[-1]] = value.strip()
    return tree


def merged(*trees: Mapping[str, Any]) -> Tree:
    """The trees laid over one another, later ones on top."""
    result: Tree = {}
    for tree in trees:
        for name, value in tree.items():
            below = result.get(name)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                value = merged(below, value)
            result[name] = value
    return result
