"""How much each parameter matters to what was learned, and the penalty for moving those that do.

What EWC, SI and MAS share: they differ in where the importance comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..batch import Batch
from ..nets.network import samples_alone

_CHUNK = 32  # samples whose gradients are in memory at once


class Regulariser:
    """Sum over parameters of importance · (parameter - anchor)². Nothing is held until `anchor`.

    parameters: those that are held back; importance, anchors: one tensor a parameter. It is false until
    there is something to be penalised for.
    """

    ledger_kind: ClassVar[str] = "statistics"

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.importance: list[Tensor] = []
        self.anchors: list[Tensor] = []

    def __bool__(self) -> bool:
        """Whether there is anything to be penalised for."""
        return bool(self.anchors)

    def penalty(self) -> Tensor:
        """A scalar >= 0, with its gradient 2 · importance · (parameter - anchor). It copies nothing."""
        count = len(self.parameters)
        value: Tensor = _Quadratic.apply(*self.parameters, *self.anchors, *self.importance, count)
        return value

    @torch.no_grad()
    def anchor(self, importance: Sequence[Tensor], decay: float = 1.0) -> None:
        """Hold the parameters where they are; the importance becomes decay · before + this one."""
        self.add(importance, decay)
        torch._foreach_copy_(self.anchors, self.parameters)

    @torch.no_grad()
    def add(self, importance: Sequence[Tensor], decay: float = 1.0) -> None:
        """The importance becomes decay · before + this one; the anchors stay."""
        if not self.anchors:
            self.importance = [torch.zeros_like(parameter) for parameter in self.parameters]
            self.anchors = [parameter.detach().clone() for parameter in self.parameters]
        torch._foreach_mul_(self.importance, decay)
        torch._foreach_add_(self.importance, list(importance))

    def bytes_to_come(self) -> int:
        """Bytes that the first `anchor` will add."""
        return 0 if self.anchors else 2 * sum(parameter.nbytes for parameter in self.parameters)


class _Quadratic(torch.autograd.Function):
    """The penalty's value and, computed with it, its gradient: one pass over the parameters."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, count = arguments
        parameters, anchors, importance = (tensors[at : at + count] for at in (0, count, 2 * count))
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
    chosen = {names[id(parameter)]: parameter.detach() for parameter in parameters}
    others = {
        name: tensor.detach() for name, tensor in net.state_dict(keep_vars=True).items() if name not in chosen
    }

    def one(at: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return scalar(functional_call(net, {**others, **at}, (image[None],)), label[None])

    each = vmap(grad(one), (None, 0, 0))
    totals = {name: torch.zeros_like(tensor) for name, tensor in chosen.items()}
    seen, training = 0, net.training
    net.eval()
    with samples_alone(net):
        for batch in batches:
            for start in range(0, len(batch), _CHUNK):
                part = slice(start, start + min(_CHUNK, samples - seen))
                images, labels = batch.images[part], batch.labels[part]
                if len(labels):
                    for name, gradients in each(chosen, images, labels).items():
                        totals[name] += of(gradients).sum(0)
                    seen += len(labels)
            if seen >= samples:
                break
    net.train(training)
    return [total / max(1, seen) for total in totals.values()]
