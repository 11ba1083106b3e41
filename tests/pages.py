"""Pages of the documentation of which a program writes a part."""

from __future__ import annotations

import re
from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end of name -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8")
    assert whole.count(begin) == whole.count(end) == 1, f"{page} has no place for {name}"
    written = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", whole, flags=re.DOTALL)
    page.write_text(written, encoding="utf-8")
