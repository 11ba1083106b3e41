"""How much each parameter matters to what was learned, and the penalty for moving those that do.

What EWC, SI and MAS share: they differ in where the importance comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..batch import Batch
from ..nets.network import samples_alone

_CHUNK = 32  # samples whose gradients are in memory at once


class QuadraticPenalty:
    """Sum over parameters of importance · (parameter - anchor)²; nothing is held until `anchor_at`.

    importance, anchors: one tensor a parameter. Costs no copy in a step.
    """

    def __init__(self) -> None:
        self.importance: list[Tensor] = []
        self.anchors: list[Tensor] = []

    def __bool__(self) -> bool:
        """Whether there is anything to be penalised for."""
        return bool(self.anchors)

    def of(self, parameters: Sequence[Tensor]) -> Tensor:
        """A scalar >= 0, with its gradient 2 · importance · (parameter - anchor)."""
        held = len(parameters)
        value: Tensor = _Quadratic.apply(*parameters, *self.anchors, *self.importance, held)
        return value

    @torch.no_grad()
    def anchor_at(self, parameters: Sequence[Tensor], fresh: Sequence[Tensor], decay: float = 1.0) -> None:
        """Hold the parameters where they are; importance becomes decay · importance + fresh."""
        if not self.anchors:
            self.importance = [torch.zeros_like(parameter) for parameter in parameters]
            self.anchors = [torch.empty_like(parameter) for parameter in parameters]
        torch._foreach_mul_(self.importance, decay)
        torch._foreach_add_(self.importance, list(fresh))
        torch._foreach_copy_(self.anchors, list(parameters))

    def bytes_to_come(self, parameters: Iterable[Tensor]) -> int:
        """Bytes that the first `anchor_at` will add."""
        return 0 if self.anchors else 2 * sum(parameter.nbytes for parameter in parameters)


class _Quadratic(torch.autograd.Function):
    """The penalty's value and, computed with it, its gradient: one pass over the parameters."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, held = arguments
        parameters, anchors, importance = (tensors[start : start + held] for start in (0, held, 2 * held))
        moved = torch._foreach_sub(parameters, anchors)
        weighted = torch._foreach_mul(moved, importance)
        ctx.weighted = weighted
        dots = [torch.dot(a.flatten(), b.flatten()) for a, b in zip(moved, weighted, strict=True)]
        return torch.stack(dots).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gradients = torch._foreach_mul(ctx.weighted, 2 * grads[0])
        return (*gradients, *[None] * (2 * len(gradients) + 1))


def mean_over_samples(
    net: nn.Module,
    parameters: Sequence[Tensor],
    batches: Iterable[Batch],
    scalar: Callable[[Tensor, Tensor], Tensor],
    of: Callable[[Tensor], Tensor],
    samples: int,
) -> list[Tensor]:
    """Mean over samples of `of` (square, abs) of each sample's own gradient, one tensor a parameter.

    scalar: (logits (1, K), label (1,)) -> what is differentiated. Batches are read until `samples`
    samples were seen; zeros where there are none. The network is in evaluation mode meanwhile.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    own = {names[id(parameter)]: parameter.detach() for parameter in parameters}
    others = {
        name: tensor.detach() for name, tensor in net.state_dict(keep_vars=True).items() if name not in own
    }

    def one(chosen: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return scalar(functional_call(net, {**others, **chosen}, (image[None],)), label[None])

    each = vmap(grad(one), (None, 0, 0))
    totals = {name: torch.zeros_like(tensor) for name, tensor in own.items()}
    seen, training = 0, net.training
    net.eval()
    with samples_alone(net):
        for batch in batches:
            for start in range(0, len(batch), _CHUNK):
                part = slice(start, start + min(_CHUNK, samples - seen))
                images, labels = batch.images[part], batch.labels[part]
                if len(labels):
                    for name, gradients in each(own, images, labels).items():
                        totals[name] += of(gradients).sum(0)
                    seen += len(labels)
            if seen >= samples:
                break
    net.train(training)
    return [total / max(1, seen) for total in totals.values()]
