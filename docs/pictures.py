"""Draws docs/images/live-table.svg from a real run: `python docs/pictures.py RUN_FOLDER`."""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from streamlab.cli.live import states_of
from streamlab.cli.table import accuracy_table

folder = Path(sys.argv[1])
console = Console(record=True, width=136, file=io.StringIO(), force_terminal=True)
console.print(accuracy_table(states_of(folder)[0], 136), highlight=False)
target = Path(__file__).parent / "images" / "live-table.svg"
target.write_text(console.export_svg(title="streamlab run", theme=DIMMED_MONOKAI), encoding="utf-8")
