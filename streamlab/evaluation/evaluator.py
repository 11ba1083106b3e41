"""Takes a strategy's predictions for test images: batched, padded, masked and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.split import Split
from ..errors import StreamlabError
from ..plans.stream import StreamPlan, labels_at
from ..strategy import Strategy, embeds_features, embeds_the_same
from .features import FeatureCache, features_file
from .geometry import chosen, measure_geometry, measure_groups
from .record import Evaluation, Unexposed

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHE_BYTES = 1 << 30


class Evaluator:
    """Predicts the test samples of a plan that are exposed, and at task ends what is asked beside.

    A sample is exposed once its class is, and, where its class belongs to several experiences, its
    own experience has begun. record: "unexposed" keeps predictions without the class mask, and for
    the samples not yet exposed; "neighbours" distances to training samples; "geometry" measures of
    feature space. batch_size: test images predicted at a time.
    """

    def __init__(
        self,
        plan: StreamPlan,
        test: Split,
        record: frozenset[str] = frozenset(),
        batch_size: int = 500,
        cache_bytes: int = CACHE_BYTES,
        source_digest: str = "",
    ) -> None:
        self.cache_bytes, self.source_digest = cache_bytes, source_digest
        self.plan, self.test, self.record = plan, test, record
        self.batch_size = batch_size
        self.candidates = plan.test_indices
        self.labels = labels_at(test.labels.cpu().numpy(), self.candidates)
        self.experience = plan.experience_of_test(self.candidates)
        self.shared = plan.shared_classes[self.labels]
        self.task_classes = torch.zeros(len(plan.experiences), plan.num_classes, dtype=torch.bool)
        for number, experience in enumerate(plan.experiences):
            self.task_classes[number, list(experience.classes)] = True
        self.task_classes = self.task_classes.to(test.device)
        self._cache: FeatureCache | None = None
        self._backbone: list[tuple[Tensor, int]] = []

    def images_of(self, places: NDArray[np.int64]) -> Tensor:
        """The images of these candidates."""
        return self.test.images_at(torch.from_numpy(self.candidates[places]).to(self.test.device))

    def frozen(self, strategy: Strategy, places: NDArray[np.int64]) -> Tensor:
        """What does not change of these candidates (features, a query), computed once a run if it fits.

        The kernel's own features of a frozen network are kept for other runs too.
        """
        if self._cache is None:
            self._cache = self.cache_of(strategy, self.test, "test")
        return self._cache.at(self.candidates[places])

    def cache_of(self, strategy: Strategy, split: Split, name: str) -> FeatureCache:
        """A cache of embeddings, by index of a split; on disk where they are the network's features."""
        images = repr((self.source_digest, name, len(split), split.transforms))
        return FeatureCache(
            len(split),
            self.batch_size,
            lambda rows: strategy.embed(split.images_at(torch.from_numpy(rows).to(split.device))),
            self.cache_bytes,
            features_file(strategy.net, images) if embeds_features(strategy) and self.source_digest else None,
            split.device,
        )

    def keep(self) -> None:
        """Keep the features of a frozen network for other runs."""
        if self._cache is not None:
            self._cache.keep()

    def forget(self) -> None:
        """What was taken for constant has changed."""
        self._cache = None

    def forget_if_changed(self, strategy: Strategy) -> None:
        """Forget where a tensor of the backbone was written to, or replaced, since this was last asked.

        A strategy that declares its embeddings constant is trusted: they may not be its backbone's.
        """
        backbone = strategy.net.backbone
        now = [(tensor, tensor._version) for tensor in (*backbone.parameters(), *backbone.buffers())]
        before, self._backbone = self._backbone, now
        same = len(before) == len(now) and all(
            one is other and version == written
            for (one, version), (other, written) in zip(before, now, strict=True)
        )
        if not (strategy.frozen or same):
            self.forget()

    def evaluate(
        self,
        strategy: Strategy,
        samples_seen: int,
        task_ends: tuple[int, ...],
        periodic: bool,
        begun: int,
        exposed: NDArray[np.bool_],
        neighbours: Callable[[], Tensor],
    ) -> Evaluation:
        """Predict the exposed test samples.

        begun: experiences that have begun. exposed: (classes,), as the strategy has it on its device.
        neighbours: gives the training images whose features are compared with. Raises StreamlabError
        where scores have the wrong shape or are no numbers.
        """
        known = exposed[self.labels] & (~self.shared | (self.experience < begun))
        take = _Take(self, strategy, bool(task_ends))
        if task_ends and "neighbours" in self.record:
            take.compare_with(neighbours())
        arrays = take.predict(np.flatnonzero(known))
        unexposed = None
        if "unexposed" in self.record and (task_ends or not begun) and not known.all():
            take.unmasked = True
            others = take.predict(np.flatnonzero(~known))
            kept = ("unmasked", "confidence", "energy", "neighbour") if exposed.any() else ("unmasked",)
            chosen = {name: others[name] for name in kept if name in others}
            unexposed = Unexposed(self.candidates[~known], self.labels[~known], **chosen)
        indices, labels = self.candidates[known], self.labels[known]
        geometry = None
        if task_ends and "geometry" in self.record:
            geometry = take.geometry(np.flatnonzero(known), arrays["predictions"])
        return Evaluation(
            samples_seen, task_ends, periodic, exposed, indices, labels, **arrays, unexposed=unexposed,
            geometry=geometry,
        )  # fmt: skip


class _Take:
    """One evaluation: what is taken of each batch of scores."""

    def __init__(self, evaluator: Evaluator, strategy: Strategy, at_task_end: bool) -> None:
        self.evaluator, self.strategy, self.at_task_end = evaluator, strategy, at_task_end
        self.unmasked = at_task_end and "unexposed" in evaluator.record
        self.hidden = ~strategy.exposed
        self.nearby: Tensor | None = None
        self.broken = torch.zeros(1, dtype=torch.bool, device=strategy.exposed.device)
        self.same = embeds_the_same(strategy)
        if self.same:
            evaluator.forget_if_changed(strategy)

    @torch.no_grad()
    def compare_with(self, images: Tensor) -> None:
        """Keep the features of these images, each of length 1, to measure distances to."""
        size = self.evaluator.batch_size
        parts = [F.normalize(self.strategy.net.features(part)) for part in torch.split(images, size)]
        self.nearby = torch.cat(parts)

    def predict(self, places: NDArray[np.int64]) -> dict[str, Any]:
        """The columns for these candidates, by name, each (n,)."""
        size = self.evaluator.batch_size
        batches = [self._columns(places[start : start + size]) for start in range(0, len(places), size)]
        if not batches:
            return {"predictions": np.zeros(0, np.int64)}
        columns = {name: torch.cat([b[name] for b in batches]) for name in batches[0]}
        found = fetched([self.broken, *columns.values()])
        if found[0].any():
            raise StreamlabError("predict returned scores that are not numbers (NaN)")
        return dict(zip(columns, found[1:], strict=True))

    @torch.no_grad()
    def geometry(self, places: NDArray[np.int64], predictions: NDArray[np.int64]) -> dict[str, float]:
        """Measures of the features of these candidates, of at most geometry.MOST of them."""
        evaluator, strategy = self.evaluator, self.strategy
        some = chosen(len(places), evaluator.plan.seed)
        rows, size = places[some], evaluator.batch_size
        parts = [
            evaluator.frozen(strategy, part)
            if self.same and embeds_features(strategy)
            else strategy.net.features(evaluator.images_of(part))
            for part in np.split(rows, range(size, len(rows), size))
        ]
        device = evaluator.test.device
        weights = getattr(strategy.net.head, "weight", None)
        features = torch.cat(parts)
        if weights is not None and tuple(weights.shape) != (evaluator.plan.num_classes, features.shape[1]):
            weights = None
        labels = torch.from_numpy(evaluator.labels[rows]).to(device)
        taken = torch.from_numpy(predictions[some]).to(device)
        found = measure_geometry(features, labels, weights, taken)
        if evaluator.plan.has_base:
            found |= measure_groups(features, labels, evaluator.task_classes[0], weights)
        return found

    @torch.no_grad()
    def _columns(self, places: NDArray[np.int64]) -> dict[str, Tensor]:
        """A short batch is padded, so that its bits are those of a full one."""
        count = len(places)
        evaluator = self.evaluator
        padded = np.resize(places, evaluator.batch_size) if count < evaluator.batch_size else places
        strategy = self.strategy
        images = evaluator.images_of(padded)
        if self.same:
            embedding = evaluator.frozen(strategy, padded)
            raw = self._checked(strategy.score(embedding, images))[:count]
        else:
            raw = self._checked(strategy.predict(images))[:count]
        scores = raw.masked_fill(self.hidden, float("-inf"))
        columns = {"predictions": scores.argmax(1)}
        if self.at_task_end:
            tasks = torch.from_numpy(evaluator.experience[places]).to(scores.device)
            columns["task_masked"] = scores.masked_fill(~evaluator.task_classes[tasks], float("-inf")).argmax(
                1
            )
            if evaluator.plan.has_base:
                in_group = evaluator.task_classes[0][None] == (tasks == 0)[:, None]
                columns["group_masked"] = scores.masked_fill(~in_group, float("-inf")).argmax(1)
            if self.strategy.scores_are_logits:
                scores = scores.float()
                columns["confidence"] = scores.softmax(1).amax(1)
                columns["energy"] = scores.logsumexp(1)
        if self.unmasked:
            columns["unmasked"] = raw.argmax(1)
        if self.nearby is not None:
            known = self.same and embeds_features(strategy)
            features = embedding if known else strategy.net.features(images)
            columns["neighbour"] = 1 - (F.normalize(features[:count]) @ self.nearby.T).amax(1).float()
        return columns

    def _checked(self, scores: Tensor) -> Tensor:
        expected = (self.evaluator.batch_size, self.evaluator.plan.num_classes)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise StreamlabError(f"predict returned {found}, and must return scores of shape {expected}")
        self.broken = self.broken | torch.isnan(scores).any()
        return scores


def fetched(columns: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Tensors of a device as arrays of their shapes and types, by one copy."""
    plain = [column.contiguous() for column in columns]
    packed = torch.cat([column.flatten().view(torch.uint8) for column in plain]).cpu().numpy()
    found, begin = [], 0
    for column in plain:
        kind = np.dtype(str(column.dtype).removeprefix("torch."))
        part = packed[begin : begin + column.nbytes].copy().view(kind)
        found.append(part.reshape(tuple(column.shape)))
        begin += column.nbytes
    return found
