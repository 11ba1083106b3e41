"""Recipes that ship: each is whole, resolves on its source's format, and runs; figures stand beside one's own."""

from __future__ import annotations

import dataclasses
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from archives import ARCHIVES, cub, mini
from making import write_cifar, write_tiny_imagenet
from typer.testing import CliRunner

import streamlab
from streamlab import plugins, recipes
from streamlab.config import merged
from streamlab.data.load import source_plugin
from streamlab.errors import StreamlabError
from streamlab.experiments.grid import Cell, prepare_grid
from streamlab.experiments.request import Request, read_recipe
from streamlab.experiments.rows import parse_row
from streamlab.experiments.run import run_experiment
from streamlab.recipes import PREFIX, About
from streamlab.simulator import events

NAMES = recipes.shipped()
# Networks and lengths that a miniature bears; what they replace is the recipe's.
SMALL: dict[str, dict[str, Any]] = {
    "convnet": {"width": 8}, "resnet18": {"width": 8}, "resnet12": {"width": 8}, "resnet20": {"width": 8}, "resnet32": {"width": 8},
    "timm": {"name": "vit", "patch_size": 16, "width": 16, "depth": 6, "heads": 2, "image_size": 32},
}  # fmt: skip
SHORT = {
    "stream": {"epochs": 1, "updates_per_batch": 1}, "base": {"epochs": 1, "milestones": []},
    "optimizer": {"milestones": [], "schedule": "constant"},
    "first": {"epochs": 1, "milestones": []},
    "foster": {"compression_epochs": 1, "optimizer": {"schedule": "constant"}}, "gdumb": {"passes": 1}, "mos": {"alignment_epochs": 1},
    "podnet": {"tuning_epochs": 1, "optimizer": {"schedule": "constant"}},
    "nc-fscil": {"steps": [2]}, "cec": {"epochs": 1, "episodes": 2, "way": 3},
    "coil": {"optimizer": {"schedule": "constant", "milestones": []}},
    "ewc": {"samples": 4}, "der++": {"optimizer": {"schedule": "constant", "milestones": []}},
    "er-ace": {"optimizer": {"schedule": "constant", "milestones": []}},
    "x-der": {"optimizer": {"schedule": "constant", "milestones": []}, "replay_size": 4, "contrastive_size": 4},
}  # fmt: skip


class Unheard:
    """A watcher who does not listen."""

    def hear(self, cell: Cell, event: events.Event) -> None:
        pass

    def tick(self) -> None:
        pass


def about(name: str) -> About:
    told = recipes.about(recipes.path_of(PREFIX + name))
    assert told is not None
    return told


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each source in its archive's format, few images of each class."""
    data = tmp_path_factory.mktemp("data")
    ten = {**{f"data_batch_{number}.bin": 40 for number in range(1, 6)}, "test_batch.bin": 20}
    write_cifar(data / "cifar-10", ten, 1, 10)
    write_cifar(data / "cifar-100", {"train.bin": 1000, "test.bin": 200}, 2, 100)
    write_tiny_imagenet(data / "tiny-imagenet")
    mini(data / "miniimagenet", train=6)
    for name in ("imagenet-r", "imagenet-r-si-blurry"):
        ARCHIVES[name](data / name)
    cub(data / "CUB_200_2011", train=6)
    return data


def request(name: str, data: Path, **others: Any) -> Request:
    asked = Request(**{**read_recipe(recipes.path_of(PREFIX + name)), "intervals": False})
    if "episodes" in asked.scenarios:
        asked.settings["scenario"]["query"] = 2  # a miniature has few images of a class
    return dataclasses.replace(asked, data=str(data), seeds=1, workers=0, **others)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_whose_it_is_and_quotes_what_it_runs(name: str, miniatures: Path) -> None:
    told, asked = about(name), request(name, miniatures)
    assert re.search(r"\d{4}", told.paper)
    assert told.table
    labels = {parse_row(text).label for text in asked.strategies}
    for row, metric in told.figures:
        label, _, budget = row.partition(" ")
        assert label in labels
        assert budget in ("", *asked.budgets)
        assert metric in plugins.names("metrics")
        assert metric in told.metric
    assert told.classes == source_plugin(asked.source)[0].classes
    grid = prepare_grid(request(name, miniatures, budgets=("unbounded",)))
    assert {cell.spec.label for cell in grid.cells} == labels
    plain = name == "mir/cifar-10" or name.startswith("susana-distancia/")
    assert all(bool(cell.spec.augment.steps) != plain for cell in grid.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_on_a_miniature(name: str, miniatures: Path, tmp_path: Path) -> None:
    asked = request(name, miniatures)
    rows = {parse_row(text).strategy for text in asked.strategies}
    short = {
        section: values
        for section, values in SHORT.items()
        if section in rows or section in ("stream", "base", "optimizer")
    }
    if "episodes" in asked.scenarios:
        del short["optimizer"]
        short["scenario"] = {"episodes": 4, "train_way": 5, "validation_episodes": 3, "test_episodes": 3}
    if "first" in asked.settings:
        short["first"] = SHORT["first"]
    backbone, _, model = str(asked.settings["backbone"]["name"]).partition(":")
    small = {"backbone": dict(SMALL[backbone])}
    train = asked.settings["backbone"].pop("train", "nothing")
    if model.startswith("resnet18"):
        small["backbone"] = {"name": "resnet18", **SMALL["resnet18"]}
    elif train == "all":
        small["backbone"]["trained"] = True
    if (asked.source == "tiny-imagenet" or "alice" in rows) and backbone == "resnet18":
        # torch's convolutions crash where narrower ones learn from so many pixels
        small["backbone"]["width"] = 16
    if backbone == "timm" or "@" in asked.source:
        small |= {"preprocess": {"resize": 0, "crop": 0}, "augment": {"operations": [{"name": "flip"}]}}
        asked = dataclasses.replace(asked, source=re.sub("@.*", "@32", asked.source))
        asked.settings.pop("augment", None)
    settings = merged(asked.settings, short, small)
    asked = dataclasses.replace(
        asked, settings=settings, budgets=("200ex",), eval_every=asked.eval_every and 1_000_000
    )
    assert run_experiment(asked, tmp_path / "out", lambda grid, title: nullcontext(Unheard()))
    ran = streamlab.load_run(tmp_path / "out").runs
    assert {run.spec.label for run in ran} == {parse_row(text).label for text in asked.strategies}
    judged = "episode_accuracy" if "episodes" in asked.scenarios else "a_last"
    assert all(run.complete and 0 <= run.metrics[judged] <= 1 for run in ran)


def told(command: str, *arguments: object) -> Any:
    from streamlab.cli.main import app

    return CliRunner(env={"COLUMNS": "150", "NO_COLOR": "1"}).invoke(app, [command, *map(str, arguments)])


def test_recipes_are_listed_and_one_is_told_whole(miniatures: Path) -> None:
    listed = told("recipes").output
    assert all(name in listed for name in NAMES)
    whole = told("recipes", "mammoth/s-cifar-10-200", "--data", miniatures).output
    for line in ("NeurIPS 2020", "44.79 ± 1.86", "cifar-10, which is here", "read in"):
        assert line in whole
    lacking = told("recipes", "teen/cifar-100", "--data", miniatures / "nowhere").output
    assert "streamlab data fetch cifar-100" in " ".join(lacking.split())
    assert "  published  er: a_last 44.79" in whole
    assert "did you mean 'teen/cifar-100'" in str(told("recipes", "teen/cifar-10").exception)


def test_a_run_of_a_recipe_ends_with_what_was_published(miniatures: Path, tmp_path: Path) -> None:
    short = ["--set", "stream.epochs=1", "--set", "backbone.width=8", "--data", miniatures, "--seeds", "1"]
    ran = told(
        "run",
        "recipe:mammoth/s-cifar-10-200",
        "--strategy",
        "er",
        *short,
        "--out",
        tmp_path / "out",
        "--workers",
        "0",
    )
    assert ran.exit_code == 0, ran.output
    ending = ran.output[ran.output.index("NeurIPS 2020") :]
    assert re.search(r"er\s+a_last\s+44\.79 ± 1\.86\s+\d+\.\d\d\s+200ex\s+1", ending)
    assert "64.88" not in ending, "der++ was not run"


def test_a_source_of_another_number_of_classes_is_refused(miniatures: Path, tmp_path: Path) -> None:
    asked = [
        "recipe:mammoth/s-cifar-10-200",
        "--strategy",
        "er",
        "--data",
        miniatures,
        "--out",
        tmp_path / "out",
    ]
    refused = told("run", *asked, "--source", "cifar-100")
    assert "is of 10 classes, and cifar-100 has 100" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    mistyped = told("run", "recipe:mamoth/s-cifar-10-200")
    assert "did you mean 'mammoth/s-cifar-10-200'" in str(mistyped.exception)


def test_runs_at_several_budgets_stand_in_lines_of_their_own(miniatures: Path, tmp_path: Path) -> None:
    short = ("--set", "stream.epochs=1", "--set", "backbone.width=8", "--seeds", "1", "--workers", "0")
    at = ("--budget", "20ex", "--budget", "200ex", "--data", miniatures, "--out", tmp_path / "out")
    ran = told("run", "recipe:mammoth/s-cifar-10-200", "--strategy", "er", *short, *at)
    ending = ran.output[ran.output.index("NeurIPS 2020") :]
    assert re.findall(r" (20ex|200ex)\s+1", ending) == ["20ex", "200ex"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('about = "mine"', "about is a section, and 'mine' is none"),
        ('[about]\npaper = "P"', "about: table is not given"),
        ('[about]\npublished = {er = {a_last = "12.5 %"}}', "about: published is"),
    ],
)
def test_what_a_recipe_says_of_itself_is_checked(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(StreamlabError, match=message):
        recipes.about(tmp_path / "mine.toml")


def test_sections_of_rows_that_are_not_run_are_left_out() -> None:
    whole = read_recipe(recipes.path_of("recipe:survey/cifar-100-b0-inc10"))
    assert recipes.of_rows(whole, ()) == whole
    chosen = recipes.of_rows(whole, ["foster"])["settings"]
    assert "foster" in chosen
    assert "optimizer" in chosen
    assert not {"wa", "icarl", "ewc"} & set(chosen)
