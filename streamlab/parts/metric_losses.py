"""Losses on where features lie: ICNN, which looks at each point's neighbours, and the proto-triplet.

Source: Mendez-Ruiz et al. 2023 (arXiv 2305.09062), equal to the authors' code, gradients included
(tests/vectors/icnn_prototriplet_*). All take any leading dimensions (episodes), and compute in float32
at least, whatever the features' precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..config import at_least
from ..errors import StreamlabError

Variant = Literal["support", "query-support", "query-prototypes", "all"]
VARIANTS: tuple[Variant, ...] = ("support", "query-support", "query-prototypes", "all")
_NEIGHBOURS = 4
_INSIDE_ROOT, _DIVISOR = 1e-6, 1e-7


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(…, A, D), (…, B, D) -> (…, A, B): sqrt(sum of squares + 1e-6), as in the authors' code."""
    a, b = full_precision(a), full_precision(b)
    plain = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return (plain.square() + _INSIDE_ROOT).sqrt()


def prototypes_of(features: Tensor, labels: Tensor, way: int) -> Tensor:
    """(…, S, D), (…, S) int64 in [0, way) -> (…, way, D): the mean feature of each class."""
    points = full_precision(features)
    members = torch.nn.functional.one_hot(labels, way).to(points.dtype)
    return members.mT @ points / members.sum(-2).unsqueeze(-1)


def proto_triplet_loss(query: Tensor, labels: Tensor, prototypes: Tensor, margin: float = 0.5) -> Tensor:
    """Hinge on the gap between a query's own prototype and its nearest rival; a scalar >= 0.

    query: (…, Q, D); labels: (…, Q) int64 in [0, W); prototypes: (…, W, D), W >= 2. Eq. 3: distance to
    the own prototype - distance to the nearest other + margin, at least 0, averaged over all queries.
    """
    gaps = distances(query, prototypes)
    to_own = gaps.gather(-1, labels[..., None]).squeeze(-1)
    rivals = gaps.scatter(-1, labels[..., None], float("inf")).amin(-1)
    return (to_own - rivals + margin).clamp(min=0).mean()


def icnn_score(
    origins: Tensor,
    origin_labels: Tensor,
    targets: Tensor,
    target_labels: Tensor,
    within: int | None = None,
    drops_nearest: bool = True,
) -> Tensor:
    """How near points lie to their own class among their nearest neighbours: (…) in [0, 1], 1 is best.

    origins: (…, O, D), whose neighbours among targets (…, T, D) are looked at; labels: (…, O), (…, T)
    int64. within: nearest targets among which the nearest of another class is sought (None: one more
    than the neighbours, of which there are 4, or T - 2 where there are fewer targets).
    drops_nearest: leave out each origin's nearest target. Right where origins are targets (it is the
    point itself); elsewhere it is what the authors' code does, and so the default, since their figures
    come from it; False counts the nearest, as the text has it. Raises StreamlabError for T <= 2.
    """
    count = targets.shape[-2]
    if count <= 2:
        raise StreamlabError(f"icnn: {count} points are too few to have neighbours; it takes at least 3")
    k = _NEIGHBOURS if count > _NEIGHBOURS + 2 else count - 2
    m = min(k + 1 if within is None else within, count - drops_nearest)
    near, place = distances(origins, targets).topk(m + drops_nearest, dim=-1, largest=False)
    near, place = near[..., drops_nearest:], place[..., drops_nearest:]
    labels = target_labels.unsqueeze(-2).expand(*place.shape[:-1], count).gather(-1, place)
    same = labels == origin_labels.unsqueeze(-1)

    rival = near.masked_fill(same, float("inf")).amin(-1, keepdim=True)
    near, same = near[..., :k], same[..., :k]
    is_same = same.to(near.dtype)
    is_other = 1 - is_same
    scaled = near / (rival + _DIVISOR)
    scaled = scaled / scaled.amax(-1, keepdim=True).clamp(min=1)
    same_part = 1 - _mean_of_rows(scaled * is_same, is_same)
    foreign = near * is_other
    foreign = foreign / (foreign.amax((-2, -1), keepdim=True) + _DIVISOR)
    other_part = _mean_of_rows(foreign, is_other)
    other_part = (other_part - (is_other.sum((-2, -1)) == 0).to(near.dtype)).abs()
    purity = is_same.mean((-2, -1)) if k + 2 < count else torch.ones_like(same_part)
    return ((same_part + other_part) / 2 + purity) / 2


def _mean_of_rows(values: Tensor, members: Tensor) -> Tensor:
    """Mean over the rows that have a member of the mean of their members; (…, O, k) -> (…)."""
    counts = members.sum(-1)
    rows = (counts > 0).to(values.dtype).sum(-1)
    return (values.sum(-1) / (counts + _DIVISOR)).sum(-1) / (rows + _DIVISOR)


def icnn_loss(
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    way: int,
    variant: Variant = "all",
    drops_nearest: bool = True,
) -> Tensor:
    """-log of the ICNN score, averaged over episodes; a scalar >= 0.

    support: (…, S, D); query: (…, Q, D); labels in [0, way). variant: whose neighbours are looked at:
    the support's among itself; the queries' among the support; the queries' among the prototypes; or
    all points' among all.
    """
    score = icnn_score_of(variant, support, support_labels, query, query_labels, way, drops_nearest)
    return -score.clamp(min=1e-12).log().mean()


def icnn_score_of(
    variant: Variant,
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    way: int,
    drops_nearest: bool = True,
) -> Tensor:
    """The ICNN score of an episode in one of its four variants (see `icnn_loss`); (…) in [0, 1]."""
    if variant == "support":
        return icnn_score(support, support_labels, support, support_labels)
    if variant == "query-support":
        return icnn_score(query, query_labels, support, support_labels, drops_nearest=drops_nearest)
    if variant == "query-prototypes":
        targets = prototypes_of(support, support_labels, way)
        labels = torch.arange(way, device=support.device).expand(targets.shape[:-1])
        return icnn_score(query, query_labels, targets, labels, drops_nearest=drops_nearest)
    points, labels = torch.cat([support, query], -2), torch.cat([support_labels, query_labels], -1)
    return icnn_score(points, labels, points, labels, within=points.shape[-2] // way)


@dataclass(frozen=True)
class MetricTerms:
    """icnn, proto_triplet: weights of these losses on the batch's features, beside the method's own
    (0: left out); margin: of the proto-triplet.
    """

    icnn: float = 0.0
    proto_triplet: float = 0.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        for name in ("icnn", "proto_triplet", "margin"):
            at_least("metric losses", name, getattr(self, name), 0)

    @property
    def wanted(self) -> bool:
        """Whether any is to be computed."""
        return self.icnn > 0 or self.proto_triplet > 0

    def of(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted terms of a batch: features (B, D), labels (B,) of any classes.

        ICNN looks at all points among all; a class's prototype is its mean in the batch. What a batch is
        too small for (3 points; 2 classes) is left out of it.
        """
        terms = {}
        if self.icnn and len(features) > 2:
            score = icnn_score(features, labels, features, labels)
            terms["icnn"] = -self.icnn * score.clamp(min=1e-12).log()
        if self.proto_triplet:
            present, places = torch.unique(labels, return_inverse=True)
            if len(present) > 1:
                means = prototypes_of(features, places, len(present))
                terms["proto_triplet"] = self.proto_triplet * proto_triplet_loss(
                    features, places, means, self.margin
                )
        return terms


def full_precision(values: Tensor) -> Tensor:
    """Half precision as float32; the rest as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
