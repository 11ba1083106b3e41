"""Plans: saved and loaded as they were, and noticed where they were changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamlab
from streamlab.errors import CorruptFile, StreamlabError
from streamlab.plans.stream import StreamPlan


def test_a_saved_plan_loads_equal(tmp_path: Path) -> None:
    plan = streamlab.plan("si-blurry", "glyphs-100", seed=3)
    plan.save(tmp_path / "plan.safetensors")
    loaded = StreamPlan.load(tmp_path / "plan.safetensors")
    assert loaded == plan
    assert loaded.options == plan.options
    for left, right in zip(loaded.experiences, plan.experiences, strict=True):
        np.testing.assert_array_equal(left.indices, right.indices)


def test_a_changed_plan_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    streamlab.plan("si-blurry", [0, 1] * 20, tasks=2).save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptFile, match="does not match its fingerprint"):
        StreamPlan.load(path)
    path.write_bytes(content[:20])
    with pytest.raises(CorruptFile, match="is not a saved plan"):
        StreamPlan.load(path)


def test_a_plan_depends_on_labels_options_and_seed_alone() -> None:
    labels = np.arange(200) % 10
    before = streamlab.plan("si-blurry", labels, seed=5).fingerprint
    np.random.seed(1)
    np.random.rand(3)
    assert streamlab.plan("si-blurry", labels.tolist(), seed=5).fingerprint == before
    assert streamlab.plan("si-blurry", labels, seed=5, tasks=4).fingerprint != before


def test_the_merged_plan_serves_the_same_samples_as_one_session() -> None:
    plan = streamlab.plan("si-blurry", [0, 1, 2, 3] * 10, tasks=2)
    merged = plan.merged()
    assert merged.kind == "sessions"
    np.testing.assert_array_equal(merged.stream, np.sort(plan.stream))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([], "non-empty row of integers"),
        ([[0, 1]], "non-empty row of integers"),
        ([0.5, 1.5], "non-empty row of integers"),
        ([0, -1], "labels must count from 0, and one is -1"),
    ],
)
def test_labels_that_are_none_are_refused(labels: list[object], sentence: str) -> None:
    with pytest.raises(StreamlabError, match=sentence):
        streamlab.plan("si-blurry", labels)
