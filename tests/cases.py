"""Counts the tests of what is promised, and writes the table of docs/explanation/trust.md.

python tests/cases.py
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from pages import write_between

ROOT = Path(__file__).parent.parent
# What is promised, and the files, or tests of them, that would notice.
PROMISES = {
    "the same stream": ["tests/scenarios"],
    "randomness has names": ["tests/streamlab/test_randomness.py"],
    "the same bits after a kill": ["tests/streamlab/test_resume.py"],
    "state comes back, or is refused": ["tests/streamlab/test_memory.py", "tests/streamlab/test_failures.py"],
    "what each built-in strategy promises": ["tests/strategies/test_builtins.py", "tests/streamlab/test_check.py"],
    "neighbours": ["tests/streamlab/test_isolation.py"],
    "sealed files": ["tests/streamlab/test_seals.py"],
    "the same on an accelerator": ["tests/streamlab/test_accelerator.py"],
    "a method computes what its authors' does": ["tests/strategies/test_authors", "tests/strategies/test_equations"],
    "sources and downloads": [
        "tests/streamlab/test_sources.py", "tests/streamlab/test_fetch.py", "tests/streamlab/test_arrays.py",
        "tests/streamlab/test_data.py",
    ],
    "a fixed sample of each attack": ["tests/robustness"],
}  # fmt: skip


def counted(options: list[str]) -> Counter[str]:
    """Tests by file, as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *options]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.rpartition(": ") for line in said.splitlines() if ": " in line]
    return Counter({name: int(count) for name, _, count in lines if count.isdigit()})


def main() -> None:
    suite, slow = counted([]), counted(["-m", "slow"])
    lines = ["| promise | tests | slow ones |", "| --- | ---: | ---: |"]
    for promise, places in PROMISES.items():
        each = [
            sum(n for name, n in found.items() if name.startswith(tuple(places))) for found in (suite, slow)
        ]
        assert each[0], promise
        lines.append(f"| {promise} | {each[0]} | {each[1]} |")
    lines.append(f"| all | {sum(suite.values())} | {sum(slow.values())} |")
    write_between(ROOT / "docs/explanation/trust.md", "cases", "\n".join(lines))


if __name__ == "__main__":
    main()
