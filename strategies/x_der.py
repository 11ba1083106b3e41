"""X-DER: dark experience with logits of later heads, which it keeps up to date (Boschini et al., TPAMI 2022,
arXiv 2201.00766).

A classifier has a block of outputs for each experience, those to come among them. Beside cross-entropy among
the present block, exemplars keep all their logits, present and future ones too (alpha), and their labels
among past blocks (beta). Future blocks are made ready: in each of them views of a class lie together
(supervised contrastive loss), and no output there is above those of a sample's own block (margin). What an
exemplar's logits said of blocks that were to come is written anew while these are learned: where an output
would be above the exemplar's own, all of them are brought down, the largest to `gamma` times that.

As Mammoth's code, its authors': exemplars are taken at the end of an experience, in one more pass over it, as
many of each class; a kept logit is renewed with the chance of one over the times it was drawn; running
statistics of batch normalisation follow one pass of a step alone, in later experiences that of exemplars and
a part of the batch (`align`). Left out: the past constraint and the distance-preserving loss, which their
code has switched off unless asked. A class takes the next free output when it comes, so that none is known
beforehand; blocks to come are as wide as the present one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlab.config import Range, Searched, at_least, within
from streamlab.memory.buffer import Buffer
from streamlab.needs import Needs
from streamlab.parts.contrastive import second_views, supervised_contrastive_loss
from streamlab.parts.passes import statistics_kept
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@article{boschini2022xder,
  title = {Class-Incremental Continual Learning into the eXtended {DER}-verse},
  author = {Boschini, Matteo and Bonicelli, Lorenzo and Buzzega, Pietro and Porrello, Angelo and
    Calderara, Simone},
  journal = {IEEE TPAMI},
  year = {2022},
}
"""


@dataclass(frozen=True)
class Options:
    """replay_size: exemplars of each draw; alpha, beta: weights of their logits and labels; gamma: the share
    of the own output that outputs above it are brought down to. contrastive: weight of the contrastive loss
    in future blocks; contrastive_size: exemplars beside the batch for it; views: of each image; temperature:
    of it. eta, margin: weight and margin of the future outputs' constraint. align: running statistics as the
    authors' (else every pass of a step moves them). batch_size: of the pass that takes exemplars.
    """

    replay_size: int = 32
    alpha: float = 0.3
    beta: float = 0.8
    gamma: float = 0.85
    contrastive: float = 0.05
    contrastive_size: int = 64
    views: int = 2
    temperature: float = 5.0
    eta: float = 0.1
    margin: float = 0.3
    align: bool = True
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("replay_size", "contrastive_size", "views"):
            at_least("x-der", name, getattr(self, name), 1)
        at_least("x-der", "batch_size", self.batch_size, 2)
        for name in ("alpha", "beta", "contrastive", "eta", "margin"):
            at_least("x-der", name, getattr(self, name), 0)
        at_least("x-der", "temperature", self.temperature, 1e-3)
        within("x-der", "gamma", self.gamma, 0, 1)


class SharedOut(Buffer):
    """As many exemplars of each class; those of a class in the order in which they came.

    wanted: class -> how many more are taken.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.wanted: dict[int, int] = {}

    def make_room(self, classes: list[int], order: list[int]) -> None:
        """Every class gives up all but its share of the room, and those of this experience get what is left.

        order: of their places, in which those stand that get one more.
        """
        share = self.capacity // len(self.slots_of.keys() | set(classes))
        self.keep(
            [slot for label in sorted(self.slots_of) for slot in self.slots_of[label][:share]], self.capacity
        )
        each, over = divmod(self.capacity - self.count, len(classes))
        more = {classes[place] for place in order[:over]}
        self.wanted = {label: each + (label in more) for label in classes}

    def choose_slots(self, batch: Batch) -> dict[int, int]:
        taken = {}
        for row, label in enumerate(batch.label_list):
            if self.wanted.get(label, 0):
                self.wanted[label] -= 1
                self.slots_of.setdefault(label, []).append(self.count)
                taken[self.count] = row
                self.count += 1
        return taken

    def survivors(self, capacity: int) -> list[int]:
        return self.thinned(capacity, lambda count: count - 1)


def brought_down(logits: Tensor, own: Tensor, gamma: float) -> Tensor:
    """(n, m) logits -> the same, or where the largest is above own (n,), they times gamma · own / largest."""
    largest = logits.max(1).values
    share = gamma * own / torch.where(largest == 0, 1.0, largest)
    return torch.where((largest > own)[:, None], logits * share[:, None], logits)


def _classes(view: ExperienceView) -> list[int]:
    """Those that belong to an experience, and those of other experiences that it has samples of."""
    return sorted({*view.classes, *torch.unique(view.labels).tolist()})


class ExtendedDarkExperience(Strategy):
    """Dark experience with a past that is rewritten, and a future that is made ready."""

    options: Options
    needs = Needs(boundaries=True, new_classes=True)
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = dict.fromkeys(("column", "block", "present"), "statistics")
    search_space: ClassVar[dict[str, Searched]] = {
        "optimizer.lr": Range(0.003, 0.3), "alpha": Range(0.1, 1), "beta": Range(0.1, 1),
    }  # fmt: skip

    def setup(self) -> None:
        setting, classes = self.setting, self.setting.num_classes
        buffer = self.make_buffer(SharedOut, extras={"logits": (classes,), "draws": ()})
        assert isinstance(buffer, SharedOut)
        self.buffer = buffer
        self.second = second_views(setting.seed, setting.image_shape[0])
        self.column = torch.arange(classes, device=setting.device)  # the output of a class
        self.block = torch.full((classes,), -1, device=setting.device)  # the experience of an output
        self.present = torch.ones(classes, dtype=torch.bool, device=setting.device)  # outputs that compete
        self.past = self.seen = 0  # outputs before this experience's, and with them
        self.number, self.width = 0, 1  # of this experience, and how many classes it has

    def begin_experience(self, view: ExperienceView) -> None:
        """Its new classes get the next outputs; all that have not come share the rest, in any order."""
        self.number, self.past, classes = view.number, self.seen, _classes(view)
        came = torch.argsort(self.column)[: self.past].tolist()
        new = [label for label in classes if label not in came]
        self.width = max(1, len(new))
        rest = sorted(set(range(len(self.column))).difference(came, new))
        order = torch.tensor([*came, *new, *rest], device=self.column.device)
        self.column[order] = torch.arange(len(order), device=order.device)
        self.seen = self.past + len(new)
        self.block[self.past : self.seen] = view.number
        self.present.fill_(False)
        self.present[self.column[classes]] = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        replays = self.past > 0 and len(self.buffer) > 0
        with statistics_kept(self.net, self.options.align and replays):
            outputs = self.net(batch.images)
        columns = self.column[batch.labels]
        losses = {"task": self.cross_entropy(outputs, columns, self.present)}
        blocks = self.block[columns]
        if replays:
            replay, replayed, again, labels = self.replay(batch)
            losses |= replay
            outputs, blocks = torch.cat([outputs, again]), torch.cat([blocks, self.block[labels]])
            self.renew(replayed, again.detach(), labels, torch.rand(len(labels)).to(labels.device))
        if self.seen < len(self.column):
            losses["contrastive"] = self.options.contrastive * self.contrast(batch)
            losses["future"] = self.options.eta * self.constraint(outputs, blocks)
        return losses

    def replay(self, batch: Batch) -> tuple[dict[str, Tensor], list[int], Tensor, Tensor]:
        """Losses of two draws; and of both, each exemplar once: slots, outputs (n, K), columns (n,)."""
        options, size = self.options, self.options.replay_size
        draws = [self.drawn(size) for _ in range(2)]
        dark, plain = (self.buffer.at(slots).in_view() for slots in draws)
        beside = batch.images[: size // self.number] if options.align else batch.images[:0]
        dark_outputs = self.net(torch.cat([dark.images, beside]))[: len(dark)]
        with statistics_kept(self.net, self.options.align):
            plain_outputs = self.net(plain.images)
        columns = self.column[torch.cat([dark.labels, plain.labels])]
        among_past = plain_outputs[:, : self.past]
        losses = {
            "logits": options.alpha * F.mse_loss(dark_outputs, dark.extras["logits"]),
            "replay": options.beta * self.cross_entropy(among_past, columns[len(dark) :]),
        }
        both = [*draws[0], *draws[1]]
        first = dict[int, int]()  # slot -> where it stands first
        for place, slot in enumerate(both):
            first.setdefault(slot, place)
        rows = torch.tensor(list(first.values()), device=columns.device)
        return losses, list(first), torch.cat([dark_outputs, plain_outputs])[rows], columns[rows]

    def drawn(self, size: int) -> list[int]:
        """Slots of up to `size` exemplars."""
        return self.buffer.read_draws.choose(min(size, len(self.buffer)), len(self.buffer))

    @torch.no_grad()
    def renew(self, slots: list[int], outputs: Tensor, columns: Tensor, chances: Tensor) -> None:
        """Kept logits of present and future blocks, where draws times its chance are below 1."""
        if self.past == len(self.column):
            return
        rows = torch.tensor(slots, device=columns.device)
        kept, draws = self.buffer.extras["logits"], self.buffer.extras["draws"]
        draws[rows] += 1
        own = kept[rows, columns]
        made = brought_down(outputs[:, self.past :], own, self.options.gamma)
        old = kept[rows, self.past :]
        kept[rows, self.past :] = torch.where((chances * draws[rows] < 1)[:, None], made, old)

    def contrast(self, batch: Batch) -> Tensor:
        """The contrastive loss in every future block, their mean."""
        images, labels, options = batch.originals, batch.labels, self.options
        if self.past and len(self.buffer):
            held = self.buffer.at(self.drawn(options.contrastive_size))
            images, labels = torch.cat([held.images, images]), torch.cat([held.labels, labels])
        shown = self.second.of(images.repeat_interleave(options.views, 0))
        with statistics_kept(self.net, self.options.align):
            outputs = self.net(shown).view(len(labels), options.views, -1)
        blocks = outputs[:, :, self.seen :].split(self.width, 2)
        found = [
            supervised_contrastive_loss(F.normalize(block, dim=2), labels, options.temperature)
            for block in blocks
        ]
        return torch.stack(found).mean()

    def constraint(self, outputs: Tensor, blocks: Tensor) -> Tensor:
        """(n, K), (n,) samples' own blocks -> the mean excess of future outputs, where there is any."""
        own = outputs.masked_fill(self.block != blocks[:, None], float("-inf")).max(1).values
        excess = F.relu(outputs[:, self.seen :].max(1).values + self.options.margin - own)
        return excess.sum() / (excess > 0).sum().clamp(min=1)

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        """Exemplars of its classes are taken, and the older ones' logits of present and future renewed."""
        with statistics_kept(self.net):
            self.take(view)
            slots, size = self.drawn(len(self.buffer)) if self.number else [], self.options.batch_size
            parts = [slots[first : first + size] for first in range(0, len(slots), size)]
            if len(parts) > 1 and len(parts[-1]) == 1:  # batch normalisation, too
                parts[-2:] = [parts[-2] + parts[-1]]
            for part in parts:
                self.renew_old(part)
        self.buffer.extras["draws"].zero_()

    def take(self, view: ExperienceView) -> None:
        """Fill the room of the new classes, with logits of past blocks brought down."""
        classes = _classes(view)
        if not classes:
            return
        self.buffer.make_room(classes, torch.randperm(len(classes)).tolist())
        for batch in view.batches(1, self.options.batch_size):
            if not any(self.buffer.wanted.values()):
                break
            if len(batch) == 1 < len(view):
                continue  # batch normalisation has no variance of one sample
            logits = self.net(batch.images)
            own = logits.gather(1, self.column[batch.labels][:, None])[:, 0]
            if self.past:
                past = brought_down(logits[:, : self.past], own, self.options.gamma)
                logits = torch.cat([past, logits[:, self.past :]], 1)
            self.buffer.add(batch.with_extras(logits=logits, draws=torch.zeros_like(own)))

    def renew_old(self, slots: list[int]) -> None:
        """Exemplars of earlier experiences, whatever their chance."""
        batch = self.buffer.at(slots).in_view()
        outputs, columns = self.net(batch.images), self.column[batch.labels]
        old = columns < self.past
        chances = torch.where(old, 0.0, float("inf"))
        self.renew(slots, outputs, columns, chances)

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        logits: Tensor = self.net.head(embedding)
        return logits[:, self.column]
