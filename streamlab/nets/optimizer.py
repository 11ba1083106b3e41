"""Optimizers: plain SGD of our own, the others torch's.

Building torch's first optimizer costs a second and 150 MB in every worker (it imports a compiler),
and stepping it 25 µs; small networks on streams feel both. The update rule and its bits are torch's.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OptimizerConfig

_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class SGD(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum and weight decay, as torch.optim.SGD computes it.

    One group of parameters, or torch's groups; rates may change between steps, as torch's schedulers change
    them. torch's constructor, which imports the compiler, is left out: what it sets is set here.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.defaults: dict[str, Any] = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov,
        }  # fmt: skip
        given: list[Any] = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [{**self.defaults, **group} for group in groups]
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        for name in _HOOKS:
            setattr(self, name, OrderedDict())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closures
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moved: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            steps = [parameter.grad for parameter in moved if parameter.grad is not None]
            if not moved:
                continue
            if group["weight_decay"]:
                steps = list(torch._foreach_add(steps, moved, alpha=group["weight_decay"]))
            if group["momentum"]:
                steps = self._through_velocities(moved, steps, group)
            torch._foreach_add_(moved, steps, alpha=-group["lr"])

    def _through_velocities(
        self, moved: list[Tensor], steps: list[Tensor], group: dict[str, Any]
    ) -> list[Tensor]:
        for parameter, step in zip(moved, steps, strict=True):
            state = self.state[parameter]
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(group["momentum"]).add_(step)
            else:
                state["momentum_buffer"] = step.clone()
        velocities: list[Tensor] = [self.state[parameter]["momentum_buffer"] for parameter in moved]
        if not group["nesterov"]:
            return velocities
        return list(torch._foreach_add(steps, velocities, alpha=group["momentum"]))


Optimizer = torch.optim.Optimizer


def build_optimizer(config: OptimizerConfig, parameters: list[nn.Parameter]) -> Optimizer:
    """The configured optimizer over these parameters."""
    if config.name == "sgd":
        return SGD(parameters, config.lr, config.momentum, config.weight_decay, config.nesterov)
    make = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return make(parameters, lr=config.lr, weight_decay=config.weight_decay)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that its next step will follow."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
