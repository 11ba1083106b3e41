"""LoRA inside a backbone: low-rank terms beside linear layers and convolutions, as `peft` puts them in.

Hu et al. 2022, eq. 3: W x + (alpha / rank) · B A x, where A begins as Kaiming uniform and B at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import StreamlabError
from .transformer import Switched


class LowRankBeside(Switched):
    """A layer of peft's; switched off, the layer that it stands around."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.inner(rows) if self.on else self.inner.base_layer(rows)
        return made


def put_in(where: str, backbone: nn.Module, layers: Sequence[str], rank: int, alpha: int) -> list[Switched]:
    """Give every layer of these names its low-rank term; returns them in the order of modules.

    layers: last parts of modules' names, as qkv. The terms are drawn from torch's global generator. Raises
    StreamlabError where peft is not installed, or the backbone has no layer of one of the names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise StreamlabError(f"{where}: LoRA needs peft (pip install 'streamlab-cl[lora]')") from None
    there = {
        name.rpartition(".")[2]
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    for name in layers:
        if name not in there:
            raise StreamlabError(
                f"{where}: LoRA beside {name}, and the backbone has no layer of that name; it has "
                f"{', '.join(sorted(there))}"
            )
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers), lora_dropout=0.0)
    inject_adapter_in_model(config, backbone)
    found: list[Switched] = []
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                beside = LowRankBeside(child)
                setattr(parent, name, beside)
                found.append(beside)
    return found
