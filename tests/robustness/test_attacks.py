"""A fixed sample of the attacks (attack.py): nothing silent, nothing hung, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import attack


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("name", "cases"), [("recipes", 60), ("sources", 120), ("damage", 40), ("downloads", 80)]
)
def test_a_sample_of_every_attack_ends_well(name: str, cases: int) -> None:
    ended = {seed: attack.run_case(name, seed) for seed in range(10_000, 10_000 + cases)}
    assert {seed: end for seed, end in ended.items() if end[0] not in ("fine", "refused")} == {}
    assert {how for how, _ in ended.values()} == {"fine", "refused"}


def test_an_attack_knows_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which a case may be wrong, by a culprit."""

    def wrong(how: str) -> None:
        if how == "silent":
            raise attack.Silent("otherwise")
        if how == "hangs":
            raise attack.Hangs
        raise KeyError(how)

    monkeypatch.setattr(attack, "ATTACKS", {"one": lambda draws, folder: wrong(now[0])})
    now = [""]
    for how, expected in (("silent", "silent"), ("hangs", "hangs"), ("anything", "traceback")):
        now[0] = how
        assert attack.run_case("one", 0)[0] == expected
