"""How a network is trained, as sections of a recipe: optimizer, first session, base session, augmentation.

Importing this file imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import plugins
from .augmentation.operations import Affine, Flip
from .augmentation.pipelines import Pipeline
from .config import at_least, within
from .errors import StreamlabError


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer that a strategy's network is trained with, and how its rate moves.

    name: sgd, or another (`streamlab list optimizers`: torch's in small letters, as adamw). options: what it
    takes beside (betas, say). nesterov: of sgd's momentum. backbone_lr: the backbone's rate is lr times this.
    decay_norms: whether norms and biases (tensors of one dimension) decay too. clip: the most that the norm
    of all gradients may be (0: any). label_smoothing: the share of a target that is spread over the classes
    that compete. restart: forget momentum and its like when an experience begins.

    schedule: constant, or another (`streamlab list schedules`; streamlab.schedules).
    unit: what milestones, every and warmup count: epochs, steps, or shares of the whole. over: whether it
    begins anew with each experience, or runs through the stream. gamma: the factor of step, multistep and
    exponential; floor: the least share of the rate.
    """

    name: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    backbone_lr: float = 1.0
    decay_norms: bool = True
    clip: float = 0.0
    label_smoothing: float = 0.0
    restart: bool = False
    schedule: str = "constant"
    unit: Literal["epoch", "step", "share"] = "epoch"
    over: Literal["experience", "stream"] = "experience"
    milestones: tuple[float, ...] = ()
    every: float = 0.0
    gamma: float = 0.1
    warmup: float = 0.0
    floor: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plugins.find("optimizers", self.name)
        plugins.find("schedules", self.schedule)
        object.__setattr__(self, "options", {name: _value(given) for name, given in self.options.items()})
        if self.lr <= 0:
            raise StreamlabError(f"optimizer: lr is {self.lr}, and must be above 0")
        for name in ("backbone_lr", "clip", "every", "warmup"):
            at_least("optimizer", name, getattr(self, name), 0)
        within("optimizer", "label_smoothing", self.label_smoothing, 0, 1)
        within("optimizer", "gamma", self.gamma, 0, 1)
        within("optimizer", "floor", self.floor, 0, 1)
        if self.schedule == "step" and not self.every:
            raise StreamlabError("optimizer: the schedule step needs every, as optimizer.every=30")
        if self.schedule == "multistep" and not self.milestones:
            raise StreamlabError("optimizer: the schedule multistep needs milestones, as 60,120")
        if self.schedule == "one-cycle" and (self.warmup or self.unit == "share"):
            raise StreamlabError("optimizer: one-cycle warms up by itself, and counts epochs or steps")

    @property
    def moves(self) -> bool:
        """Whether its rate is another at another time."""
        return self.schedule != "constant" or self.warmup > 0


@dataclass(frozen=True)
class FirstConfig:
    """What differs in the first experience (section `first`); None: as in all."""

    epochs: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    milestones: tuple[float, ...] | None = None
    warmup: float | None = None

    def __post_init__(self) -> None:
        at_least("first", "epochs", 1 if self.epochs is None else self.epochs, 1)
        _ = self.of(OptimizerConfig())  # what it refuses is refused here

    def of(self, later: OptimizerConfig) -> OptimizerConfig:
        """The optimizer of the first experience."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        given.pop("epochs", None)
        if later.schedule != "multistep":
            given.pop("milestones", None)  # of rows that have some; refused where none has (prepare.py)
        return dataclasses.replace(later, **given)


@dataclass(frozen=True)
class MovesConfig:
    """How far a training of its own moves its images; by default they are left as they are.

    rotate, shear: degrees either way; scale: least and most size, 1 as it is; shift: share of a side,
    either way; mirror: left for right, half of the time.
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        try:
            _ = self.operations
        except StreamlabError as error:  # it speaks of the section that the same operation has elsewhere
            raise StreamlabError(str(error).replace("augment: affine's", "moves:")) from None

    @property
    def operations(self) -> Pipeline:
        """The same as operations of an augmentation."""
        affine = Affine(self.rotate, self.shear, self.scale, self.shift)
        moves = affine != Affine()
        return (*((Flip(),) if self.mirror else ()), *((affine,) if moves else ()))


@dataclass(frozen=True)
class BaseConfig:
    """How a base session is trained on (section `base`).

    SGD with Nesterov momentum, whose rate falls once an epoch, as the papers' codes (or with every step:
    rate_by), by a cosine, or by gamma at each of the milestones; augmentation by one affine map, after the
    stream's own; temperature: of the cosine classifier.
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
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
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
        _ = self.moves, self.optimizer  # what they refuse is refused here

    @property
    def moves(self) -> MovesConfig:
        return MovesConfig(self.rotate, self.shear, self.scale, self.shift, self.mirror)

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=True,
            schedule="multistep" if self.milestones else "cosine",
            milestones=self.milestones,
            gamma=self.gamma,
            unit=self.rate_by,
        )


def _value(given: Any) -> Any:
    """Text as the numbers, true or false that it says, or as it is."""
    if not isinstance(given, str):
        return tuple(given) if isinstance(given, list) else given
    if "," in given:
        return tuple(_value(part.strip()) for part in given.split(","))
    try:
        return json.loads(given)
    except ValueError:
        return given
