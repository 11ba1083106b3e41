"""Attacks that go on for as long as they are given: seeded, resumable, a line a case.

    make attack SECONDS=600
    python tests/robustness/attack.py --seconds 0 --write docs/explanation/trust.md

Of every case it is known how it may end: as if nothing were wrong, with nothing wrong; or with one sentence. A
traceback, a hang, or a result that is otherwise without a word is a failure, and its seed is told.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import damage
import downloads
import recipes
import sources
from pages import write_between

from streamlab.errors import StreamlabError

ATTACKS: dict[str, Callable[[random.Random, Path], None]] = {
    "recipes": recipes.attack, "sources": sources.attack, "damage": damage.attack,
    "downloads": downloads.attack,
}  # fmt: skip
ENDS = ("fine", "refused", "silent", "hangs", "traceback", "no sentence")
LONG, MOST = 30, 1000  # seconds of a case; letters of a sentence


class Hangs(BaseException):
    """A case takes too long."""


class Silent(AssertionError):
    """A result is otherwise than it was, and nothing said so."""


def run_case(name: str, seed: int) -> tuple[str, str]:
    """How a case ends: fine, refused, or what is wrong, with what was said."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONG)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ATTACKS[name](random.Random(f"{name}/{seed}"), Path(folder))
        return "fine", ""
    except StreamlabError as error:
        text = str(error)
        if len(text) > MOST or "\n" in text.strip() or "\0" in text or "\x1b" in text:
            return "no sentence", text[:2000]
        return "refused", text
    except OSError as error:  # which the command line tells by the file's name
        return ("refused", str(error)) if error.filename else ("traceback", traceback.format_exc())
    except Hangs:
        return "hangs", ""
    except Silent as error:
        return "silent", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--log", type=Path, default=Path("attack.jsonl"), help="gone on with where it ends")
    parser.add_argument("--only", choices=tuple(ATTACKS))
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the table of all cases in its place there"
    )
    given = parser.parse_args()
    done = [json.loads(line) for line in given.log.read_text().splitlines()] if given.log.exists() else []
    ends, counts = time.monotonic() + given.seconds, Counter(line["attack"] for line in done)
    found = Counter((line["attack"], line["ended"]) for line in done)
    with given.log.open("a") as log:
        while time.monotonic() < ends:
            for name in [given.only] if given.only else ATTACKS:
                seed = counts[name]
                counts[name] += 1
                ended, said = run_case(name, seed)
                found[name, ended] += 1
                case = {"attack": name, "seed": seed, "ended": ended, "said": said}
                print(json.dumps(case), file=log, flush=True)
                if ended not in ("fine", "refused"):
                    print(f"{name} {seed}: {ended}: {said[-300:]}")
    print(table(found))
    if given.write:
        write_between(given.write, "attacks", table(found))
    raise SystemExit(any(found[name, ended] for name in ATTACKS for ended in ENDS[2:]))


def table(found: Counter[tuple[str, str]]) -> str:
    """How many cases of each attack ended how, in Markdown."""
    rows = [[name, sum(found[name, ended] for ended in ENDS), *(found[name, ended] for ended in ENDS)]
            for name in ATTACKS]  # fmt: skip
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    head = ["attack", "cases", *ENDS]
    lines = [
        head,
        ["---", *["---:"] * (len(head) - 1)],
        *([str(row[0]), *(f"{n:,}" for n in row[1:])] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
