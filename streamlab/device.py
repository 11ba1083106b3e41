"""Which device a run is computed on. Importing this file imports no torch."""

from __future__ import annotations

from .errors import StreamlabError, unknown


def chosen_device(name: str) -> str:
    """`auto`, `cpu` or `cuda` as what there is; raises StreamlabError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise unknown("device", name, ("auto", "cpu", "cuda")) from None
    if kind not in ("cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise StreamlabError("device cuda is asked for, and torch sees no GPU; use --device cpu or auto")
    return name
