"""Weights in safetensors files: read with checks, written with what they are for. Nothing is unpickled.

A file that streamlab wrote says in its header which backbone it fits (`streamlab.backbone`, JSON), so
that its name alone is enough to build it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import CorruptFile, StreamlabError

_HEADER = "streamlab.backbone"


def read_header(where: str, path: Path) -> Mapping[str, Any]:
    """What the file says of its backbone; empty for one that streamlab did not write.

    Raises StreamlabError for a missing file; CorruptFile for one that is no safetensors, and says
    how to make one.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StreamlabError(f"{where}: there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            found: Mapping[str, Any] = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(
            f"{path} is no safetensors file ({error}); `streamlab convert {path}` makes one of a pickle"
        ) from None
    return found


def load_weights(where: str, model: nn.Module, path: Path) -> None:
    """Fill a model from a safetensors file; what else is in it (a head) is left out.

    Raises StreamlabError for a missing tensor or one of another shape, and as `read_header`.
    """
    from safetensors.torch import load_file

    read_header(where, path)
    found = load_file(path)
    for name, expected in model.state_dict().items():
        if name not in found:
            raise StreamlabError(f"{path} has no tensor {name}")
        if found[name].shape != expected.shape:
            raise StreamlabError(
                f"{path}: {name} has shape {tuple(found[name].shape)}, and should have "
                f"{tuple(expected.shape)}"
            )
    model.load_state_dict({name: found[name] for name in model.state_dict()})


def as_weights(model: nn.Module, backbone: Mapping[str, Any]) -> bytes:
    """The content of a weights file for `model`, with the backbone options that build it."""
    from safetensors.torch import save

    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    return save(tensors, {_HEADER: json.dumps(backbone)})
