"""RanPAC (McDonnell et al., NeurIPS 2023, arXiv 2307.02251): ridge regression on random projections.

Features of a frozen backbone go through a fixed random layer and a ReLU; class prototypes C and the
Gram matrix G add up over the stream, and the classifier is W = (G + λI)⁻¹ C. No gradient, no
exemplars; the order of the samples does not matter.

With `adapt` small learners inside the backbone are trained in the first session, under a cosine classifier
with a learned scale, and frozen (the paper's first phase; by default its second phase alone, as for hidden
boundaries). Each sample counts once, as it lies, however often it is served.

Differs: 2,000 projections by default, not 10,000 (the Gram matrix counts in the budget); λ is
chosen by generalised cross-validation from G and C themselves (`ridge_by = cross-validation`), as a stream
without tasks wants; `holdout` is the authors' rule, where boundaries are shown: that of least squared error
on the last fifth of the current task's samples, for a fit to the first four.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamlab.config import Choice, Searched, at_least
from streamlab.needs import SESSIONS, Needs
from streamlab.nets.adapters import AdapterKind, Adapting
from streamlab.parts.first_session import FirstSession
from streamlab.randomness import Draws
from streamlab.strategy import Batch, ExperienceView, Strategy

CITATION = """
@inproceedings{mcdonnell2023ranpac,
  title = {{RanPAC}: Random Projections and Pre-trained Models for Continual Learning},
  author = {McDonnell, Mark D. and Gong, Dong and Parvaneh, Amin and Abbasnejad, Ehsan
            and van den Hengel, Anton},
  booktitle = {NeurIPS},
  year = {2023},
}
"""
RIDGES = tuple(10.0**power for power in range(-8, 9))  # those that the paper tries


def best_ridge(values: Tensor, rotated: Tensor, count: int) -> float:
    """The ridge of least generalised cross-validation error (Golub et al. 1979).

    values: (M,) eigenvalues of G = HᵀH; rotated: (M, K) eigenvectorsᵀ · C, C = HᵀY with one-hot Y of
    `count` rows. Error: ‖Y − H W‖² / (count − trace of the hat matrix)². Ridges below a millionth of
    the largest eigenvalue are left out: sums in single precision say nothing so far down.
    """
    resolved = 1e-6 * float(values.max())

    def error(ridge: float) -> float:
        shrunk = 1 / (values + ridge)
        explained = (rotated.square() * (2 * shrunk - values * shrunk.square())[:, None]).sum()
        freedom = count - (values * shrunk).sum()
        return float((count - explained) / freedom.square()) if freedom > 0.01 * count else float("inf")

    return min([ridge for ridge in RIDGES if ridge >= resolved] or RIDGES[-1:], key=error)


def ridge_by_holdout(hidden: Tensor, labels: Tensor, num_classes: int) -> float:
    """The ridge of least mean squared error on the last fifth of a task's rows, fitted to the others.

    hidden: (n, M) in the order in which the samples were served; labels: (n,) int64.
    """
    targets = F.one_hot(labels, num_classes).to(hidden.dtype)
    cut = int(len(hidden) * 0.8)
    values, vectors = torch.linalg.eigh(hidden[:cut].T @ hidden[:cut])
    rotated = vectors.T @ (hidden[:cut].T @ targets[:cut])
    turned = hidden[cut:] @ vectors

    def error(ridge: float) -> float:
        scores = turned @ (rotated / (values.clamp(min=0) + ridge)[:, None])
        return float((scores - targets[cut:]).square().mean())

    return min(RIDGES, key=error)


@dataclass(frozen=True)
class Options(Adapting):
    """projections: width M of the random layer; ridge: λ (0: chosen as ridge_by says, see above). adapt: what
    learns in the first session (adapter, ssf, vpt-shallow, vpt-deep, lora, fine-tuning; nothing: nothing
    does), by `first.epochs` and the optimizer's section; what else Adapting says.
    """

    projections: int = 2000
    ridge: float = 0.0
    ridge_by: Literal["cross-validation", "holdout"] = "cross-validation"
    adapt: Literal["", AdapterKind] = ""

    @property
    def needs_boundaries(self) -> bool:
        return bool(self.adapt) or (self.ridge_by == "holdout" and not self.ridge)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("ranpac", "projections", self.projections, 1)
        at_least("ranpac", "ridge", self.ridge, 0)


class RandomProjections(Strategy):
    """Eq. 5 to 7 of the paper: h = ReLU(f W), G += hᵀh, C += hᵀy, scores h (G + λI)⁻¹ C."""

    options: Options
    backbone: ClassVar[Mapping[str, Any]] = {"name": "glyph-vit"}
    search_space: ClassVar[Mapping[str, Searched]] = {"projections": Choice((500, 1000, 2000, 4000))}
    default_optimizer: ClassVar[Mapping[str, Any]] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005}
    scores_are_logits = False
    smooths_labels = True
    ledger_kinds: ClassVar[dict[str, str]] = {
        "projection": "model",
        "weights": "head",
        "gram": "statistics",
        "prototypes": "statistics",
        "first": "extra models",
    }

    @classmethod
    def needs_with(cls, options: Options) -> Needs:
        kinds = SESSIONS if options.adapt else cls.needs.kinds
        return dataclasses.replace(cls.needs, boundaries=options.needs_boundaries, kinds=kinds)

    def setup(self) -> None:
        width, classes, device = self.options.projections, self.setting.num_classes, self.setting.device
        self.first: FirstSession | None = None
        if self.options.adapt:
            self.first = FirstSession(self, "ranpac", self.options.adapt, self.options)
        else:
            self.net.requires_grad_(False)
            self.replace_head(nn.Identity())
        self.projection = torch.randn(self.net.backbone.feature_size, width, device=device)
        self.gram = torch.zeros(width, width, device=device)
        self.prototypes = torch.zeros(width, classes, device=device)
        self.weights = torch.zeros(width, classes, device=device)
        self.count = 0
        self.held_out_ridge = 0.0

    @property
    def adapting(self) -> bool:
        """Whether the first session is under way, and adapts the backbone."""
        return self.first is not None and self.first.under_way

    def project(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, M)."""
        return F.relu(features @ self.projection)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert self.first is not None  # observe asks
        return self.first.losses(self, batch)

    def observe(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().observe(batch) if self.adapting else {}

    def remember(self, batch: Batch) -> None:
        if not self.adapting:
            self._add(self.embeddings_of(batch.originals), batch.labels)

    @torch.no_grad()
    def _add(self, features: Tensor, labels: Tensor) -> None:
        hidden = self.project(features)
        self.gram += hidden.T @ hidden
        self.prototypes.T.index_add_(0, labels, hidden)
        self.count += len(labels)

    @torch.no_grad()
    def end_experience(self, view: ExperienceView) -> None:
        """Adaptation ends; the authors' choice of a ridge, on this task's samples in a drawn order."""
        if self.first is not None and self.first.under_way:
            self.first.end(self)
            self._add(view.embeddings(self), view.labels)
        if self.options.ridge_by == "holdout" and not self.options.ridge:
            order = Draws(self.setting.seed, "ranpac", view.number).permutation(len(view))
            rows = torch.from_numpy(order).to(view.labels.device)
            hidden = self.project(view.embeddings(self)[rows]).double()
            self.held_out_ridge = ridge_by_holdout(hidden, view.labels[rows], self.setting.num_classes)

    @torch.no_grad()
    def consolidate(self) -> None:
        """The classifier of everything seen so far."""
        if not self.count:
            return
        gram, prototypes = self.gram.double(), self.prototypes.double()
        values, vectors = torch.linalg.eigh(gram)
        values, rotated = values.clamp(min=0), vectors.T @ prototypes
        ridge = self.options.ridge or self.held_out_ridge or best_ridge(values, rotated, self.count)
        self.weights.copy_(vectors @ (rotated / (values + ridge)[:, None]))

    def score(self, embedding: Tensor, images: Tensor) -> Tensor:
        return self.project(embedding) @ self.weights
