"""Optimizers: plain SGD of our own, the others torch's.

Building torch's first optimizer costs a second and 150 MB in every worker (it imports a compiler),
and stepping it 25 µs; small networks on streams feel both. The update rule and its bits are torch's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import OptimizerConfig


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as torch.optim.SGD computes it.

    lr can be set between steps. Velocities appear at the first step with momentum.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.parameters, self.nesterov = parameters, nesterov
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocities: dict[int, Tensor] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        places = [place for place, p in enumerate(self.parameters) if p.grad is not None]
        moved: list[Tensor] = [self.parameters[place] for place in places]
        steps = [tensor.grad for tensor in moved if tensor.grad is not None]
        if not moved:
            return
        if self.weight_decay:
            steps = list(torch._foreach_add(steps, moved, alpha=self.weight_decay))
        if self.momentum:
            for place, step in zip(places, steps, strict=True):
                if place in self.velocities:
                    self.velocities[place].mul_(self.momentum).add_(step)
                else:
                    self.velocities[place] = step.clone()
            velocities = [self.velocities[place] for place in places]
            if self.nesterov:
                steps = list(torch._foreach_add(steps, velocities, alpha=self.momentum))
            else:
                steps = velocities
        torch._foreach_add_(moved, steps, alpha=-self.lr)

    @property
    def nbytes(self) -> int:
        """Bytes of the velocities."""
        return sum(velocity.nbytes for velocity in self.velocities.values())


Optimizer = SGD | torch.optim.Optimizer


def build_optimizer(config: OptimizerConfig, parameters: list[nn.Parameter]) -> Optimizer:
    """The configured optimizer over these parameters."""
    if config.name == "sgd":
        return SGD(parameters, config.lr, config.momentum, config.weight_decay, config.nesterov)
    make = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return make(parameters, lr=config.lr, weight_decay=config.weight_decay)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the learning rate."""
    if isinstance(optimizer, SGD):
        optimizer.lr = rate
        return
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that its next step will follow."""
    if isinstance(optimizer, SGD):
        parameters = optimizer.parameters
    else:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
