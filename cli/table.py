"""Draws a live state: one pure function for the running table, a finished run and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamlab.config import readable_bytes
from streamlab.evaluation.intervals import interval

from .live import LiveState, RunState

WIDE = 136  # columns of a terminal that holds every column of the table
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Column:
    """A column: its heading, its cell for a row's runs, and the metric that it ranks rows by.

    of_failed: whether it is of all runs; else of those that did not fail, which may be none.
    """

    heading: str
    cell: Callable[[list[RunState]], Text]
    left: bool = False
    metric: str = ""
    of_failed: bool = False


def accuracy_table(state: LiveState, width: int = 80) -> RenderableType:
    """The table of an experiment, for a terminal `width` columns wide.

    A row a strategy: mean ± 95 % interval over its seeds, those that failed left out. The best of each
    metric is bold (the jointly trained ceiling is not ranked).
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2 if width >= WIDE else 1, 0, 0), header_style="dim")
    shown = _columns_of(state, width)
    longest = 20 if width >= WIDE else 11
    table.add_column("strategy", no_wrap=True)
    for column in shown:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    best = {column.metric: _best(state, column.metric) for column in shown if column.metric}
    for label in state.labels:
        runs = state.of(label)
        cells = []
        for column in shown:
            going = runs if column.of_failed else [run for run in runs if run.status != "failed"]
            cell = column.cell(going) if going else Text("" if column.left else "–", style="dim")
            if column.metric and best[column.metric] == label:
                cell.stylize("bold green")
            cells.append(cell)
        failed = all(run.status == "failed" for run in runs)
        table.add_row(Text(short_label(label, longest), style="red" if failed else "bold"), *cells)
    title = Text(state.title, style="dim", no_wrap=True, overflow="ellipsis")
    lines: list[RenderableType] = [title, table]
    messages = [run.message for run in state.runs.values() if run.status == "failed"]
    lines += [Text(f"failed  {message}", style="red") for message in messages]
    if state.happening and not messages:
        lines.append(Text(state.happening, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _columns_of(state: LiveState, width: int) -> list[Column]:
    if state.layout == "sessions":
        return session_columns(state, width)
    if state.layout == "episodes":
        return episode_columns(state, width)
    return columns(width, any(run.lost for run in state.runs.values()))


def short_label(label: str, width: int) -> str:
    """A label within `width` columns: of a strategy with options, the options' end tells rows apart."""
    if len(label) <= width:
        return label
    name, _, options = label.partition(" ")
    if not options:
        return label[: width - 1] + "…"
    kept = max(2, min(len(name), width - 7))
    return f"{name[:kept]}…{options[-(width - kept - 1) :]}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Accuracies in 0..1 as a row of bars on a scale of 0 to 1, `width` at most."""
    if not values:
        return ""
    if len(values) > width:
        values = [values[int(i * len(values) / width)] for i in range(width - 1)] + [values[-1]]
    return "".join(_BARS[min(7, int(max(0.0, value) * 8))] if value == value else " " for value in values)


def _done(runs: list[RunState]) -> Text:
    share = sum(run.share for run in runs) / len(runs)
    complete = all(run.status == "complete" for run in runs)
    failed = sum(run.status == "failed" for run in runs)
    if failed == len(runs):
        return Text("failed", style="red")
    if failed and all(run.status in ("complete", "failed") for run in runs):
        return Text(f"{len(runs) - failed} of {len(runs)}", style="red")
    return Text("done" if complete else f"{share:4.0%}", style="dim" if complete or not share else "")


def _accuracy(runs: list[RunState]) -> Text:
    return _percent([run.curve[-1] for run in runs if run.curve])


def _mean_accuracy(runs: list[RunState]) -> Text:
    now = [run.curve[-1] for run in runs if run.curve and run.curve[-1] == run.curve[-1]]
    return Text(f"{100 * sum(now) / len(now):.1f}") if now else Text("–", style="dim")


def _curve(width: int) -> Callable[[list[RunState]], Text]:
    def cell(runs: list[RunState]) -> Text:
        longest = max((run.curve for run in runs), key=len)
        return Text(sparkline(longest, width), style="cyan")

    return cell


def _metric(name: str) -> Callable[[list[RunState]], Text]:
    def cell(runs: list[RunState]) -> Text:
        if not any(run.bounded for run in runs) and name != "a_last":
            return Text("n/a", style="dim")
        return _percent([run.metrics[name] for run in runs if name in run.metrics])

    return cell


def _percent(values: list[float]) -> Text:
    values = [value for value in values if value == value]
    if not values:
        return Text("–", style="dim")
    spread = interval(values)
    text = Text(f"{spread.mean:.1%}"[:-1])
    text.append(f" ±{spread.half_width * 100:4.1f}" if spread.half_width is not None else " " * 6, "dim")
    return text


def _memory(runs: list[RunState]) -> Text:
    text = _short_memory(runs)
    exemplars = max(run.exemplars for run in runs)
    if runs[0].bounded:
        text.append(f" {exemplars:>5}ex" if exemplars else " " * 8, "dim")
    return text


def _short_memory(runs: list[RunState]) -> Text:
    """Bytes held, and the part of the budget (of the exemplars, where it is given in them)."""
    held, first = max(run.held for run in runs), runs[0]
    if not first.bounded:
        return Text("unbounded", style="dim")
    if not held:
        return Text("–", style="dim")
    text = Text(readable_bytes(held).replace(" ", ""))
    if first.budget_bytes is not None:
        text.append(f" {held / first.budget_bytes:4.0%}", "dim")
    elif first.capacity:
        text.append(f" {max(run.exemplars for run in runs) / first.capacity:4.0%}", "dim")
    else:
        text.append("     ")
    return text


def _speed(runs: list[RunState]) -> Text:
    speeds = [run.samples_seen / run.train_seconds for run in runs if run.train_seconds > 0]
    return Text(f"{sum(speeds) / len(speeds):,.0f}") if speeds else Text("–", style="dim")


def _used(runs: list[RunState]) -> Text:
    """Samples that were learned from, of those that have come; of what no clock binds, nothing."""
    if not runs[0].bounded:
        return Text("n/a", style="dim")
    seen, used = _samples(runs)
    return Text(f"{used / seen:.0%}") if seen else Text("–", style="dim")


def _used_of_seen(runs: list[RunState]) -> Text:
    """The same in samples of a run, on average."""
    if not runs[0].bounded:
        return Text("n/a", style="dim")
    seen, used = _samples(runs)
    return Text(f"{used / len(runs):,.0f} / {seen / len(runs):,.0f}")


def _samples(runs: list[RunState]) -> tuple[int, int]:
    """Samples of all runs that have come, and those of them that were learned from."""
    seen = sum(run.samples_seen for run in runs)
    return seen, seen - sum(run.lost for run in runs)


def _left(runs: list[RunState]) -> Text:
    """Time of work left in the row, from the speed of its own runs so far."""
    if all(run.status in ("complete", "failed") for run in runs):
        return Text("")
    spent = [(run.train_seconds + run.evaluation_seconds, run.share) for run in runs if run.share > 0]
    if not spent or sum(share for _, share in spent) < 0.02:
        return Text("–", style="dim")
    each = sum(time for time, _ in spent) / sum(share for _, share in spent)
    left = each * sum(1 - run.share for run in runs)
    return Text(f"{int(left) // 60}:{int(left) % 60:02}")


def _best(state: LiveState, metric: str) -> str | None:
    means = {}
    for label in state.labels:
        runs = [
            run for run in state.of(label) if run.bounded and metric in run.metrics and run.status != "failed"
        ]
        if runs:
            means[label] = sum(run.metrics[metric] for run in runs) / len(runs)
    if len(means) < 2:
        return None
    return (min if metric in ("f_last", "performance_drop") else max)(means, key=lambda label: means[label])


def session_columns(state: LiveState, width: int) -> list[Column]:
    """A column a session, accuracy in percent; then the average, the drop and the harmonic mean."""
    sessions = max((run.experiences for run in state.runs.values()), default=0)
    sessions = max([sessions, *(len(run.curve) for run in state.runs.values())])
    shown = [Column("run", _done, of_failed=True)]
    shown += [Column("base" if number == 0 else f"+{number}", _session(number)) for number in range(sessions)]
    rest = [
        Column("avg %", _mean_metric("a_avg"), metric="a_avg"),
        Column("drop", _mean_metric("performance_drop"), metric="performance_drop"),
        Column("harm", _mean_metric("harmonic_mean"), metric="harmonic_mean"),
    ]
    if width >= WIDE:
        return [*shown, *rest, Column("memory", _short_memory), Column("left", _left, of_failed=True)]
    room = width - 12 - 5 - 5 * sessions
    return shown + rest[: max(1, room // 6)]


def _session(number: int) -> Callable[[list[RunState]], Text]:
    def cell(runs: list[RunState]) -> Text:
        now = [run.curve[number] for run in runs if len(run.curve) > number]
        return Text(f"{100 * sum(now) / len(now):.1f}") if now else Text("–", style="dim")

    return cell


def _mean_metric(name: str) -> Callable[[list[RunState]], Text]:
    def cell(runs: list[RunState]) -> Text:
        now = [run.metrics[name] for run in runs if name in run.metrics]
        return Text(f"{100 * sum(now) / len(now):.1f}") if now else Text("–", style="dim")

    return cell


def episode_columns(state: LiveState, width: int) -> list[Column]:
    """Accuracy over episodes: meta-validation while training, at last meta-test, which ranks the rows.

    ±ep: 1.96 s / sqrt(n) over episodes, the mean of the seeds; ±seeds: Student's t at 95 % over seeds.
    """
    wide = width >= WIDE
    shown = [
        Column("run", _done, of_failed=True),
        Column("acc %", _mean_accuracy, metric="episode_accuracy"),
        Column("±ep", _half_width),
        Column("±seeds", _over_seeds),
        Column("accuracy so far" if wide else "curve", _curve(20 if wide else 8), left=True),
        Column("memory", _short_memory),
        Column("episodes/s" if wide else "ep/s", _speed),
        Column("left", _left, of_failed=True),
    ]
    if any(run.environments for run in state.runs.values()):
        shown.insert(4, Column("env. %", _in_environments))
    return shown


def _half_width(runs: list[RunState]) -> Text:
    now = [run.half_width for run in runs if run.half_width is not None]
    return Text(f"{100 * sum(now) / len(now):.1f}") if now else Text("–", style="dim")


def _over_seeds(runs: list[RunState]) -> Text:
    now = [run.metrics["episode_accuracy"] for run in runs if "episode_accuracy" in run.metrics]
    half = interval(now).half_width if now else None
    return Text("–", style="dim") if half is None else Text(f"{100 * half:.1f}")


def _in_environments(runs: list[RunState]) -> Text:
    """Mean accuracy over the environments tested so far."""
    now = [sum(run.environments.values()) / len(run.environments) for run in runs if run.environments]
    return Text(f"{100 * sum(now) / len(now):.1f}") if now else Text("–", style="dim")


def columns(width: int, clocked: bool = False) -> list[Column]:
    """The columns that a terminal of this width holds without wrapping; clocked: samples were lost."""
    wide = width >= WIDE
    shown = [
        Column("run", _done, of_failed=True),
        Column("acc %", _accuracy if wide else _mean_accuracy),
        Column("accuracy so far" if wide else "curve", _curve(20 if wide else 8), left=True),
        Column("A_AUC %", _metric("a_auc"), metric="a_auc"),
        Column("forget %", _metric("f_last"), metric="f_last"),
        Column("memory", _memory if wide else _short_memory),
        Column("samples/s" if wide else "smp/s", _speed),
        Column("left", _left, of_failed=True),
    ]
    if wide:
        shown.insert(4, Column("A_last %", _metric("a_last"), metric="a_last"))
    if clocked:
        shown[-2] = Column("learned / seen" if wide else "used", _used_of_seen if wide else _used)
    return shown
