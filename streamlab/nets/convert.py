"""`streamlab convert`: a checkpoint that is a pickle becomes a safetensors file.

It is read by torch's `weights_only` loader, which runs no code of the file, in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import CorruptFile, StreamlabError

_NESTED = ("state_dict", "model", "model_state_dict", "module", "teacher")


def convert(source: Path, target: Path) -> int:
    """Write the tensors of a checkpoint as safetensors; returns how many there are.

    Of a checkpoint with more than weights those under state_dict, model and the like are taken, and the
    `module.` of parallel training is left out of names. Raises StreamlabError where the file is missing, or
    the target there; CorruptFile for what is no checkpoint of tensors.
    """
    if not source.is_file():
        raise StreamlabError(f"there is no file {source}")
    if target.exists():
        raise StreamlabError(f"{target} is there already; name another with --out")
    done = subprocess.run(
        [sys.executable, "-m", "streamlab.nets.convert", str(source), str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise CorruptFile(f"{source} cannot be converted: {reason}")
    return int(done.stdout)


def _convert(source: Path, target: Path) -> int:
    import torch
    from safetensors.torch import save_file

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle makes of its reader
        kind = type(error).__name__
        print(f"torch cannot read it without running code of its own ({kind})", file=sys.stderr)
        raise SystemExit(1) from None
    while isinstance(found, dict):
        nested = [name for name in _NESTED if isinstance(found.get(name), dict)]
        if not nested:
            break
        found = found[nested[0]]
    tensors = {
        str(name).removeprefix("module."): value.detach().contiguous().clone()
        for name, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        print("it holds no tensors by name", file=sys.stderr)
        raise SystemExit(1)
    temporary = target.with_name(target.name + ".tmp")
    save_file(tensors, temporary)
    temporary.replace(target)
    return len(tensors)


if __name__ == "__main__":
    print(_convert(Path(sys.argv[1]), Path(sys.argv[2])))
