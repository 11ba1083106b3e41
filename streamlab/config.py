"""Text from a person becomes typed values: sections, `a.b=c` settings, budgets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_origin, get_type_hints

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
    "geometry": "how classes lie in feature space: ICNN score, intra/inter ratio, neural collapse",
}


@dataclass(frozen=True)
class StreamConfig:
    """How a stream is served to every strategy: the same batches for all.

    batch_size: samples of a batch, or episodes (not given: 10 samples, 1 episode).
    """

    batch_size: int | None = None
    updates_per_batch: int = 1
    epochs: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                at_least("stream", field.name, getattr(self, field.name), 1)


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer that a strategy's network is trained with (name: sgd, adam or adamw).

    nesterov: of sgd's momentum. halve_every: steps after which the rate is halved, again and again (0:
    never).
    """

    name: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    halve_every: int = 0

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adam", "adamw"):
            raise unknown("optimizer", self.name, ("sgd", "adam", "adamw"))
        if self.lr <= 0:
            raise StreamlabError(f"optimizer: lr is {self.lr}, and must be above 0")
        at_least("optimizer", "halve_every", self.halve_every, 0)


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be moved; by default it is left as it is.

    rotate, shear: degrees either way; scale: least and most size, 1 as it is; shift: share of a side,
    either way; mirror: left for right, half of the time.
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        for name in ("rotate", "shear", "shift"):
            at_least("augment", name, getattr(self, name), 0)
        within("augment", "shear", self.shear, 0, 80)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise StreamlabError(f"augment: scale is {self.scale}, and must be two sizes above 0, in order")

    @property
    def moves(self) -> bool:
        """Whether anything but the mirror is on."""
        return bool(self.rotate or self.shear or self.shift) or self.scale != (1.0, 1.0)


@dataclass(frozen=True)
class BaseConfig:
    """How a base session is trained on (section `base`).

    SGD with Nesterov momentum, a cosine schedule whose rate falls once an epoch, as the papers' codes (or
    with every step: rate_by), augmentation by one affine map; temperature: of the cosine classifier.
    validation: share of each base class's images held out to choose the epoch by (0: the last epoch's
    weights). paper_compat: choose it on the test images of the base classes, as the papers' code does; the
    result says so.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rate_by: Literal["epoch", "step"] = "epoch"
    temperature: float = 16.0
    validation: float = 0.1
    rotate: float = 5.0
    shear: float = 5.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.08
    mirror: bool = False
    paper_compat: bool = False

    def __post_init__(self) -> None:
        at_least("base", "epochs", self.epochs, 1)
        at_least("base", "batch_size", self.batch_size, 1)
        within("base", "validation", self.validation, 0, 0.9)
        _ = self.augmentation, self.optimizer  # what they refuse is refused here

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.rotate, self.shear, self.scale, self.shift, self.mirror)

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig("sgd", self.lr, self.momentum, self.weight_decay, nesterov=True)


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
        if isinstance(value, str) and get_origin(hints[name]) is tuple:
            value = [part.strip() for part in value.split(",") if part.strip()]
        try:
            settled[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Input should be ").split(", unable to")[0]
            raise StreamlabError(f"{where}: {name} is {value!r}, and should be {problem}") from None
    return cls(**settled)


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
