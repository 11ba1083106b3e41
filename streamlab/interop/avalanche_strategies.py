"""Avalanche's strategies in our runs: `avalanche:Replay` and its like, judged and counted as ours are.

    streamlab run si-blurry --strategy er --strategy avalanche:Replay --strategy avalanche:EWC:ewc_lambda=10

What a constructor of theirs takes is an option here; the network, the optimizer, batch size, epochs and
device are the run's, and a size of memory that is not given is what the budget buys. On an online stream each
batch is one experience, as in their online examples; a session is one experience, learned when all of it was
served. Their plugins hold functions and data sets that no checkpoint can (Naive has none, and goes on): a
killed run of theirs begins anew, to the same bits, and is said to before it begins. What a plugin will make
later (a teacher, importances) is not known ahead, and so not set aside in a budget of bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..account import Account
from ..batch import Batch
from ..config import Budget, Searched
from ..errors import StreamlabError, unknown
from ..memory.ledger import Ledger, measure
from ..needs import Needs
from ..nets.network import Network
from ..nets.optimizer import SGD
from ..strategy import ExperienceView, Strategy
from .avalanche import Images, dataset_of, library

_OURS = frozenset(
    "self model optimizer criterion train_mb_size train_epochs eval_mb_size device plugins evaluator "
    "eval_every peval_mode feature_extractor classifier buffer_transform verbose base_kwargs kwargs".split()
)
_SIZES = ("mem_size", "memory_size")
_ROOM = 256 << 20  # bytes
_EXEMPLARS = ("x_memory", "memory_x")


class AvalancheStrategy(Strategy):
    """One of Avalanche's strategies, fed by the kernel; the first `allot` makes it (`theirs`)."""

    theirs_class: ClassVar[Any] = None
    needs = Needs(plain_training=True)
    search_space: ClassVar[Mapping[str, Searched]] = {}

    def setup(self) -> None:
        self.theirs: Any = None
        self.body = _Body(self.net)
        self.served, self.largest = 0, 1
        self.classes_by_experience: list[list[int]] = []
        self.shelf = _Shelf()
        if isinstance(self.optimizer, SGD):
            config = self.setting.optimizer
            self.optimizer = torch.optim.SGD(
                self.net.parameters(), config.lr, config.momentum, 0, config.weight_decay, config.nesterov
            )

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        self.served, self.largest = self.served + len(batch), max(self.largest, len(batch))
        if self.setting.kind == "sessions":
            return {}
        return self._train(batch, 1, len(batch))

    def begin_experience(self, view: ExperienceView) -> None:
        self.served, self.largest = 0, 1

    def end_experience(self, view: ExperienceView) -> None:
        if self.setting.kind == "sessions" and len(view):
            whole = next(view.batches(1, len(view)))
            self._train(whole, max(1, round(self.served / len(view))), self.largest)

    def _train(self, batch: Batch, epochs: int, size: int) -> Mapping[str, Tensor]:
        """Their `train` on these samples as one experience."""
        self.theirs.train_epochs, self.theirs.train_mb_size = epochs, size
        with quiet():
            self.theirs.train(self._experience(batch), num_workers=0, pin_memory=False)
        loss = getattr(self.theirs, "loss", None)
        return {"task": loss.detach().reshape(())} if isinstance(loss, Tensor) and loss.numel() == 1 else {}

    def _experience(self, batch: Batch) -> Any:
        """Samples as an experience of theirs, which knows what their benchmarks' experiences know."""
        make = library("avalanche.benchmarks.scenarios.dataset_scenario").DatasetExperience
        number = len(self.classes_by_experience)
        experience = make(dataset=self.shelf.put(self.net.scaled(batch.images), batch.label_list))
        library("avalanche.benchmarks.scenarios.generic_scenario").EagerCLStream("train", [experience])
        experience.current_experience = number
        known = {label for classes in self.classes_by_experience for label in classes}
        fresh = [label for label in dict.fromkeys(batch.label_list) if label not in known]
        self.classes_by_experience.append(fresh)
        counts = [len(classes) for classes in self.classes_by_experience]
        total = self.setting.num_classes
        experience.benchmark = SimpleNamespace(
            n_classes_per_exp=[*counts, total - sum(counts)],
            classes_order=[label for classes in self.classes_by_experience for label in classes],
            n_classes=total,
        )
        experience.classes_in_this_experience = set(batch.label_list)
        experience.previous_classes = known
        experience.classes_seen_so_far = known | set(batch.label_list)
        experience.future_classes = set(range(total)) - experience.classes_seen_so_far
        return experience

    def predict(self, images: Tensor) -> Tensor:
        model = self.body if self.theirs is None else self.theirs.model
        nearest = getattr(model, "eval_classifier", None)  # iCaRL's, which has no means at first
        if nearest is not None and not nearest.class_means_dict:
            model = self.body
        scores: Tensor = model(self.net.scaled(images))
        missing = self.setting.num_classes - scores.shape[1]
        return nn.functional.pad(scores, (0, missing), value=-1e9) if missing > 0 else scores

    def train_mode(self, training: bool) -> None:
        super().train_mode(training)
        if self.theirs is not None:
            self.theirs.model.train(training)


class _Shelf:
    """What was served, in data sets of theirs with room for many batches, each of which is a part of one.

    Theirs joins the data sets of all that a buffer holds at every step: parts of one data set join to a list
    of numbers, where a data set a batch would be walked through sample by sample.
    """

    def __init__(self) -> None:
        self.used = self.room = 0
        self.images: Any = None
        self.dataset: Any = None

    def put(self, images: Tensor, labels: list[int]) -> Any:
        """Scaled images (n, C, H, W) and their labels, as a data set of theirs."""
        if self.used + len(labels) > self.room:
            each = images[0].numel() * images.element_size()
            self.used, self.room = 0, max(len(labels), _ROOM // each)
            empty = images.new_zeros((self.room, *images.shape[1:]))
            self.images = Images(empty, [0] * self.room, 1.0, 0.0, ahead=True)
            self.dataset = dataset_of(self.images)
        end = self.used + len(labels)
        self.images.images[self.used : end] = images
        self.images.targets[self.used : end] = labels
        part = self.dataset.subset(list(range(self.used, end)))
        self.used = end
        return part


class AvalancheAccount(Account):
    """What a strategy of theirs holds: in its plugins, where the walk over attributes does not look."""

    begins_anew: ClassVar[str] = "what Avalanche's plugins hold cannot be checkpointed"
    strategy: AvalancheStrategy

    def allot(self, budget: Budget) -> None:
        """Make their strategy, with as many exemplars as the budget buys where its options do not say."""
        if self.strategy.theirs is not None:
            return
        given = {
            field.name: getattr(self.strategy.options, field.name)
            for field in dataclasses.fields(self.strategy.options)
            if getattr(self.strategy.options, field.name) is not None
        }
        for name in _SIZES:
            if name in self.strategy.options.__dataclass_fields__ and name not in given:
                given[name] = self._affordable(budget, name)
        missing = [name for name in self.strategy.options.required if name not in given]
        if missing:
            name = f"avalanche:{type(self.strategy).__name__}"
            raise StreamlabError(f"it needs {' and '.join(missing)} (--strategy {name}:{missing[0]}=VALUE)")
        with quiet():
            evaluator = library("avalanche.training.plugins").EvaluationPlugin(loggers=[])
        common: dict[str, Any] = {
            "optimizer": self.strategy.optimizer,
            "device": self.strategy.setting.device,
            "evaluator": evaluator,
            "eval_mb_size": 500,
        }
        parameters = inspect.signature(self.strategy.theirs_class).parameters
        if "feature_extractor" in parameters:
            common |= {"feature_extractor": self.strategy.net.backbone, "classifier": self.strategy.net.head}
            common |= {"buffer_transform": None} if "buffer_transform" in parameters else {}
        else:
            common |= {"model": self.strategy.body, "criterion": nn.CrossEntropyLoss()}
        with quiet():
            self.strategy.theirs = self.strategy.theirs_class(**common, **given)

    def _affordable(self, budget: Budget, name: str) -> int:
        """Exemplars that the budget buys. Their iCaRL (memory_size) keeps float32, and rounds up a class."""
        if budget.bytes is None:
            count = 500 if budget.exemplars is None else budget.exemplars
        else:
            each = self._exemplar_bytes(budget) * (4 if name == "memory_size" else 1)
            count = max(0, budget.bytes - self.bytes_needed(budget)) // each
        return max(0, count - (self.strategy.setting.num_classes - 1 if name == "memory_size" else 0))

    def exemplar_sizes(self, budget: Budget) -> list[int]:
        """Of those whose options speak of a memory: theirs is no buffer of ours."""
        options = self.strategy.options.__dataclass_fields__
        keeps = any("mem" in name or "patterns" in name for name in options)
        return [self._exemplar_bytes(budget)] if keeps else []

    def _exemplar_bytes(self, budget: Budget) -> int:
        channels, height, width = self.strategy.setting.image_shape
        return channels * height * width + (0 if budget.accounting == "survey" else 8)

    def ledger(self) -> Ledger:
        """The network; and of their plugins exemplars at what they stand for, modules, and tensors."""
        net, body, theirs = self.strategy.net, self.strategy.body, self.strategy.theirs
        measured = measure({"net": net}, {"net": "model"})
        kinds, exemplars = dict(measured.bytes_by_kind), 0
        pixels = 0
        each = self._exemplar_bytes(Budget())
        taken = {id(part) for module in (net, body) for part in (module, *module.modules())}
        taken |= {id(parameter) for parameter in net.parameters()}
        for kind, size, count in _held(theirs, taken) if theirs is not None else ():
            exemplars += count
            kinds[kind] = kinds.get(kind, 0) + (size or count * each)
            pixels += count * (each - 8)
        kinds = {kind: size for kind, size in kinds.items() if size}
        return Ledger(kinds, 0, exemplars, pixels, measured.parameters, measured.frozen_parameters)

    def attributes(self, everything: bool = False) -> dict[str, Any]:
        held = super().attributes(everything)
        return {name: value for name, value in held.items() if name not in ("theirs", "body", "shelf")}

    def put_state(self, plain: Any, tensors: dict[str, Tensor], device: torch.device | None = None) -> None:
        super().put_state(plain, tensors, device)
        if self.strategy.theirs is not None:
            self.strategy.theirs.optimizer = self.strategy.optimizer


class _Body(nn.Module):
    """The network as Avalanche takes it: scaled images in, logits out."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.backbone, self.head = net.backbone, net.head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


@cache
def strategy(name: str) -> type[Strategy]:
    """The class of `avalanche:NAME`; raises StreamlabError for an unknown name or without Avalanche."""
    with quiet():
        found = library("avalanche.training.supervised")
        template = library("avalanche.training.templates").SupervisedTemplate
    known = {
        key: value
        for key, value in vars(found).items()
        if isinstance(value, type) and issubclass(value, template) and value is not template
    }
    if name not in known:
        raise unknown("strategy of Avalanche", name, known)
    theirs = known[name]
    fields: list[Any] = []
    required = []
    for parameter in inspect.signature(theirs).parameters.values():
        if parameter.name in _OURS or parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = None if parameter.default is parameter.empty else parameter.default
        if parameter.name in _SIZES:
            default = None  # what the budget buys
        elif parameter.default is parameter.empty:
            required.append(parameter.name)
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields.append((parameter.name, kind | None if default is None else kind, default))
    beside = {"required": tuple(required)}  # those that have no default
    options = dataclasses.make_dataclass(f"{name}Options", fields, frozen=True, namespace=beside)
    anew = "" if name == "Naive" else AvalancheAccount.begins_anew
    attributes = {
        "theirs_class": theirs,
        "accounting": type(f"{name}Account", (AvalancheAccount,), {"begins_anew": anew}),
        "known_failures": {"resumes_mid_stream": anew} if anew else {},
        "__annotations__": {"options": options},
        "__module__": __name__,
    }
    return type(name, (AvalancheStrategy,), attributes)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Avalanche prints and warns where nothing is wrong."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def _held(theirs: Any, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """(kind, bytes, exemplars) of what their strategy and its plugins hold.

    bytes 0: exemplars that are references to samples, and count at what they stand for.
    """
    policies = library("avalanche.training.storage_policy").ExemplarsBuffer
    data = library("avalanche.benchmarks.utils").AvalancheDataset

    def visit(value: Any, name: str = "") -> Iterator[tuple[str, int, int]]:
        if value is None or isinstance(value, (str, int, float, bool)) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            exemplars = name in _EXEMPLARS
            yield ("exemplars" if exemplars else "statistics", value.nbytes, len(value) if exemplars else 0)
        elif isinstance(value, policies):
            yield "exemplars", 0, len(value.buffer)
        elif isinstance(value, data):
            yield "exemplars", 0, len(value)
        elif isinstance(value, nn.Module):
            parts = [part for part in (*value.parameters(), *value.buffers()) if id(part) not in seen]
            seen.update(id(part) for part in parts)
            yield "extra models", sum(part.nbytes for part in parts), 0
        elif isinstance(value, dict):
            for inner in value.values():
                yield from visit(inner, name)
        elif isinstance(value, (list, tuple, set)):
            for inner in value:
                yield from visit(inner, name)
        elif type(value).__module__.startswith("avalanche.training."):
            for attribute, inner in vars(value).items():
                if attribute not in _PASSING:
                    yield from visit(inner, attribute)

    yield from visit(theirs)


# What lives for one experience or one step, or is the run's own.
_PASSING = frozenset(
    "model optimizer evaluator experience adapted_dataset dataloader mbatch mb_output loss clock "
    "replay_loader device current_eval_stream _eval_streams".split()
)
