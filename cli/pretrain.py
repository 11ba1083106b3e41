"""`streamlab pretrain` under a progress bar, or as lines where there is no terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamlab.experiments.pretraining import Pretraining, pretrain
from streamlab.simulator.fit import Fitted


def _line(fitted: Fitted, epochs: int) -> str:
    line = f"epoch {fitted.epoch + 1} of {epochs}  loss {fitted.loss:.3f}"
    if fitted.held_out_accuracy is not None:
        line += f"  held out: loss {fitted.held_out_loss:.3f}, accuracy {fitted.held_out_accuracy:.1f} %"
    return line


def run_pretraining(request: Pretraining, folder: Path) -> None:
    """Train and say where the weights are; Ctrl-C leaves what the same command goes on from."""
    epochs = request.fit_config.epochs
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("loading", total=None)

        def hear(fitted: Fitted) -> None:
            bar.update(task, total=fitted.steps, completed=fitted.step, description=_line(fitted, epochs))
            if not sys.stdout.isatty() and fitted.epoch_ended:
                print(_line(fitted, epochs), flush=True)

        try:
            weights = pretrain(request, folder, hear)
        except KeyboardInterrupt:
            bar.stop()
            print("\nstopped; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
    print(f"weights: {weights}\nuse them: --set backbone.name=vit --set backbone.weights={weights}")
