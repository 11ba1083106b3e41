"""A source as `streamlab describe` shows it: its counts, what was converted, and its faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import make_source, write_pictures
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from streamlab.cli.blocks import half_blocks
from streamlab.cli.describe_source import faults_of
from streamlab.cli.main import app
from streamlab.errors import StreamlabError


def shown(*arguments: object) -> str:
    done = CliRunner(env={"COLUMNS": "90", "NO_COLOR": "1"}).invoke(app, ["describe", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


def test_a_folder_is_shown_with_its_faults(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for split, count in (("train", 8), ("test", 3)):
        write_pictures(own / split, classes=3, count=count, seed=count)
    images = own / "train"
    for source, copy in (
        ("class-0/0.png", "test/class-0/copy.png"), ("class-0/1.png", "train/class-1/copy.png"),
        ("class-2/2.png", "train/class-2/again.png"),
    ):  # fmt: skip
        (own / copy).write_bytes((images / source).read_bytes())
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(images / "class-1/white.png")
    Image.fromarray(np.arange(64).reshape(8, 8).astype(np.uint16) * 1000).save(images / "class-1/deep.png")
    (images / "rare").mkdir()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(images / "rare/one.png")
    output = shown(f"folder:{own}", "--picture", tmp_path / "sheet.png")
    for line in (
        "4 classes, 29 training and 10 test images of 1x8x8",
        "1 of 10 test images are training images too",
        "1 training images are there under another label too",
        "1 training images are there more than once",
        "1 training images are of one level",
        "1 classes have fewer than 5 training images: rare",
        "1 classes have fewer than 1 test images: rare",
        "note  1 pictures: 16 bits scaled to 8",
    ):
        assert line in output, line
    table = output[output.index("training  test") :]
    assert table.index("rare  ") < table.index("class-1  "), "the rarest first"
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 68, 130 + 10 * 68, 3)
    row = 68 * 3  # the rarest class is the last, and its one picture eight times as large
    np.testing.assert_array_equal(sheet[row : row + 64 : 8, 130 : 130 + 64 : 8, 0], np.eye(8))
    with pytest.raises(StreamlabError, match="a contact sheet is a png or a jpg"):
        shown(f"folder:{own}", "--picture", tmp_path / "sheet.xyz")
    with pytest.raises(StreamlabError, match="it is shown without --source"):
        shown(f"folder:{own}", "--seed", 0, "--set", "scenario.tasks=2")


def test_a_clean_source_says_so() -> None:
    assert list(faults_of(make_source(classes=3, train=8, test=2))) == []
    output = shown("glyphs-100")
    assert "every class has 200 training and 50 test images" in output
    assert "no image is there twice" in output
    assert "factor style  5 values: sans 5,998" in output


def test_colours_are_drawn_where_there_are_some() -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    image[0, :2] = 200
    (top, bottom) = half_blocks(image, coloured=True, size=4)
    console = Console(force_terminal=True, color_system="truecolor", width=20)
    with console.capture() as captured:
        console.print(top)
        console.print(bottom)
    assert "38;2;200;0;0" in captured.get()
    assert half_blocks(image, coloured=False, size=4)[1].plain == "    "
