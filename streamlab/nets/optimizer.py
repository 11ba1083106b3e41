"""Optimizers: plain SGD of our own, the others torch's.

Building torch's first optimizer costs a second and 150 MB in every worker (it imports a compiler),
and stepping it 25 µs; small networks on streams feel both. The update rule and its bits are torch's.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from .. import plugins
from ..errors import StreamlabError
from ..training import OptimizerConfig

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

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; closure: computes the gradients first, and the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
        return loss

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


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], backbone: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The configured optimizer over these parameters, those of a backbone at a rate of their own.

    Each group of it keeps the rate that schedules are a share of as `full_lr`. Raises StreamlabError for what
    torch's optimizer of this name does not take.
    """
    made: Optimizer
    groups = _groups(config, parameters, {id(parameter) for parameter in backbone})
    if config.name == "sgd" and not config.options:
        made = SGD(groups, config.lr, config.momentum, config.weight_decay, config.nesterov)
    else:
        made = _class_of(config.name)(groups, lr=config.lr, **torch_options(config))
    for group in made.param_groups:
        group["full_lr"] = group["lr"]
    return made


def _groups(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], backbone: set[int]
) -> list[dict[str, Any]]:
    """Parameters of one rate and one decay together, in their order."""
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        rate = config.lr * (config.backbone_lr if id(parameter) in backbone else 1.0)
        found.setdefault((rate, config.decay_norms or parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": config.weight_decay * decays, "decays": decays}
        for (rate, decays), members in found.items()
    ]


def _class_of(name: str) -> Any:
    """The class of an optimizer that takes torch's options: for sgd torch's, as ours takes four alone."""
    return torch.optim.SGD if name == "sgd" else plugins.load("optimizers", name)


def torch_options(config: OptimizerConfig) -> dict[str, Any]:
    """What an optimizer of torch's kind is given beside its groups and rate; raises StreamlabError."""
    takes = inspect.signature(_class_of(config.name)).parameters
    named = {name: getattr(config, name) for name in ("momentum", "nesterov", "weight_decay")}
    for name in config.options:
        if name in ("params", "lr", *named):
            raise StreamlabError(f"optimizer: {name} is no option of options; set optimizer.{name}")
    given = {**config.options, **{name: value for name, value in named.items() if value}}
    for name in given:
        if name not in takes:
            raise StreamlabError(f"optimizer: {config.name} takes no {name}")
    given.pop("weight_decay", None)  # a group's
    return given


def retune(optimizer: Optimizer, before: OptimizerConfig, now: OptimizerConfig) -> None:
    """Give every group the rate and decay of another configuration of the same optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] = group["full_lr"] * (now.lr / before.lr)
        group["weight_decay"] = now.weight_decay if group["decays"] else 0.0


def scale_rate(optimizer: Optimizer, factor: float) -> None:
    """Set every group's rate to this share of its full one."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All that it moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that its next step will follow."""
    return [parameter.grad for parameter in parameters_of(optimizer) if parameter.grad is not None]
