"""Half precision where it is fast: a backbone's pass in bfloat16 or float16, all else in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """What a backbone's pass runs in: torch's autocast, or nothing for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


def full(values: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class LossScale:
    """Keeps float16 gradients from vanishing: losses are scaled up, gradients down again.

    A step whose gradients are not finite is left out, and halves the scale; 2,000 good steps double
    it (Micikevicius et al., ICLR 2018, sec. 3.2; the numbers are torch's).
    """

    def __init__(self) -> None:
        self.scale, self.good = 65536.0, 0

    def unscale(self, gradients: list[Tensor]) -> bool:
        """Scale gradients down in place; whether all of them are finite."""
        torch._foreach_mul_(gradients, 1 / self.scale)
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self.good += 1
            if self.good % 2000 == 0:
                self.scale *= 2
            return True
        self.scale, self.good = self.scale / 2, 0
        return False
