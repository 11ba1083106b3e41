"""Text from a person becomes typed values, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlab.config import (
    Budget,
    StreamConfig,
    configure,
    merged,
    parse_budget,
    parse_settings,
    readable_bytes,
)
from streamlab.errors import StreamlabError
from streamlab.experiments.request import read_recipe
from streamlab.training import OptimizerConfig


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2MiB", Budget(bytes=2 * 2**20)),
        ("0.5 MiB", Budget(bytes=2**19)),
        ("500kB", Budget(bytes=500_000)),
        ("12345", Budget(bytes=12345)),
        ("500ex", Budget(exemplars=500)),
        ("none", Budget()),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["two", "5 apples", "1.5ex", "-1MiB", ""])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StreamlabError, match="is not understood; write 2MiB, 500kB or 500ex"):
        parse_budget(text)


def test_readable_bytes() -> None:
    shown = [readable_bytes(n) for n in (12, 2048, 150 * 1024, 3 * 2**20, 5 * 2**30)]
    assert shown == ["12 B", "2.0 KiB", "150 KiB", "3.0 MiB", "5.0 GiB"]


def test_settings_become_typed_sections() -> None:
    tree = parse_settings(["stream.batch_size=32", "er.optimizer.lr=0.1", "stream.epochs=2"])
    assert tree == {"stream": {"batch_size": "32", "epochs": "2"}, "er": {"optimizer": {"lr": "0.1"}}}
    assert configure(StreamConfig, tree["stream"], "stream") == StreamConfig(32, 1, 2)
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch_sise": "3"}, "unknown option of stream 'batch_sise'; did you mean 'batch_size'?"),
        ({"batch_size": "many"}, "stream: batch_size is 'many', and should be a valid integer"),
        ({"batch_size": "0"}, "stream: batch_size is 0, and must be at least 1"),
    ],
)
def test_wrong_options_are_one_sentence(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(StreamlabError) as error:
        configure(StreamConfig, values, "stream")
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_is_finite(value: str) -> None:
    with pytest.raises(StreamlabError, match=f"lr is '{value}', and should be a finite number"):
        configure(OptimizerConfig, {"lr": value}, "optimizer")


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(StreamlabError, match="unknown optimizer 'sdg'; did you mean 'sgd'"):
        OptimizerConfig(name="sdg")


@pytest.mark.parametrize("setting", ["batch_size=3", "stream.batch_size", "=3", "stream.=3"])
def test_a_setting_needs_a_section(setting: str) -> None:
    with pytest.raises(StreamlabError, match=r"write SECTION\.OPTION=VALUE"):
        parse_settings([setting])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("seeds = 'two'", "recipe r.toml: seeds is 'two', and should be a valid integer"),
        ("seeds = 1.5", "recipe r.toml: seeds is 1.5, and should be a valid integer"),
        ("budget = 2.5", "recipe r.toml: budgets is (2.5,), and should be a valid string"),
        ("strategies = [1]", "recipe r.toml: strategies is [1], and should be a valid string"),
        ("[scenario]\ntasks = 3", "recipe r.toml: its section [scenario] has no name"),
        ("seeds = ", "recipe"),
        ("sedes = 3", "unknown field of recipe r.toml 'sedes'; did you mean 'seeds'?"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    (tmp_path / "r.toml").write_text(content)
    with pytest.raises(StreamlabError) as error:
        read_recipe(tmp_path / "r.toml")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_one_strategy_in_a_recipe_may_stand_alone(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('strategies = "er"\n[scenario]\nname = "permuted"\ntasks = 3\n')
    given = read_recipe(tmp_path / "r.toml")
    assert given["strategies"] == ("er",)
    assert given["scenarios"] == ("permuted",)
    assert given["settings"] == {"scenario": {"tasks": 3}}
