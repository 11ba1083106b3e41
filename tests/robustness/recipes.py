"""Recipes as they should not be: each is prepared as `streamlab run` prepares it, which is what may refuse it."""

from __future__ import annotations

import random
from pathlib import Path

from streamlab.experiments.grid import prepare_grid
from streamlab.experiments.request import Request, read_recipe

WHOLE = """\
scenario = "si-blurry"
strategies = ["er", "slda", "finetune:optimizer.lr=0.1"]
source = "glyphs-100"
seeds = 2
budgets = ["500ex", "1MiB"]
eval_every = 1000
workers = 0

[stream]
batch_size = 10
updates_per_batch = 1

[backbone]
name = "mlp"
widths = [64, 32]

[optimizer]
name = "sgd"
lr = 0.05
momentum = 0.9
schedule = "multistep"
unit = "share"
over = "stream"
milestones = [0.5, 0.8]

[augment]
operations = [{ name = "crop", padding = 2 }, { name = "flip", chance = 0.5 }]

[preprocess]
resize = 28
mean = [0.5]
deviation = [0.25]

[compute]
cache = "1GiB"

[er]
selection = "balanced"
"""
VALUES = (
    "0", "-1", "1", "1e308", "-1e308", "inf", "-inf", "nan", "1_000_000_000", "9223372036854775807", "1e-320",
    "true", "false", '""', '" "', "'\\u0000'", '"a\\u0000b"', '"' + "x" * 100_000 + '"', "[]", "[[]]", "{}",
    "[1, 2]", '["er", "er"]', "[0.5]", "[nan]", '{ name = "er" }', "1979-05-27", '"../../etc/passwd"', '"/"', '"."',
    '"er:"', '"er:="', '"er:x=1"', '"er:selection=nothing"', '"avalanche:"', '"avalanche:Replay:mem_size=-1"',
    '"avalanche:Nothing"', '"avalanche:Replay:mem_size=many"', '"timm:"', '"timm:nothing"', '"./nothing.py"',
    '"-1MiB"', '"1e99GiB"', '"500"', '"model+2000ex"', '"nanMiB"', '"\\ud83d\\ude00"', '"\U0001f600"', '"none"',
    '"hf:"', '"folder:"', '"csv:/nowhere"', '"npz:/nowhere"', '"glyphs-100+"', '"+"', '"glyphs-100@32"', '"@"',
    '"glyphs-100+glyphs-100"', '"si-blurry"', '"fscil"', '"episodes"', '"saved"',
    "[" * 400 + "]" * 400, '"""' + "\n" * 50 + '"""', "0x7fffffff", "0b1", "99999999999999999999999999",
)  # fmt: skip
NAMES = (
    "seeds", "seed", "budget", "budgets", "scenario", "source", "tune", "engine", "log", "device", "workers", "plan_seed",
    "first_seed", "accounting", "record", "eval_every", "smaller", "address", "patience", "data", "x" * 5000, "settings", "er",
)  # fmt: skip
SECTIONS = (
    "scenario",
    "first",
    "base",
    "stream",
    "slda",
    "er.optimizer",
    "nothing",
    "backbone.deep.er",
    "about",
    "settings",
)


def case(draws: random.Random, folder: Path) -> Path:
    """A recipe with one to three faults."""
    lines = WHOLE.splitlines()
    for _ in range(draws.randint(1, 3)):
        place = draws.randrange(len(lines))
        kind = draws.randrange(7)
        if kind < 3 and "=" in lines[place]:
            lines[place] = f"{lines[place].partition('=')[0]}= {draws.choice(VALUES)}"
        elif kind == 3:
            lines.insert(place, f"{draws.choice(NAMES)} = {draws.choice(VALUES)}")
        elif kind == 4:
            lines.insert(place, f"[{draws.choice(SECTIONS)}]")
        elif kind == 5:
            del lines[place]
        else:
            text = lines[place]
            where = draws.randrange(len(text) + 1)
            lines[place] = (
                text[:where]
                + draws.choice(["\0", "\x1b", "=", "[", '"', "\u202e", "é", "#", "'"])
                + text[where:]
            )
    path = folder / "recipe.toml"
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draws.random() < 0.05:
        content = content[: draws.randrange(len(content))] + bytes(draws.randbytes(3))
    path.write_bytes(content)
    return path


def attack(draws: random.Random, folder: Path) -> None:
    """What a command does with it before anything is run."""
    prepare_grid(Request(**read_recipe(case(draws, folder))))
