"""The pictures of a report, one function each: what is drawn, with units on axes, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..config import readable_bytes
from ..evaluation.intervals import interval
from ..memory.ledger import KINDS
from .canvas import (
    COLOURS,
    HATCHES,
    Canvas,
    Picture,
    Styles,
    add_legend,
    add_point,
    shortened,
    styles_of,
)
from .panel import Gathered, Panel
from .statistics import MIB, Ranks, against, by_row, ranked, ranks, reference_of
from .tables import budget_text


def pictures_of(gathered: Gathered) -> list[Picture]:
    """Every picture, in the order of a report."""
    found = []
    for number, panel in enumerate(gathered.panels):
        styles = styles_of(panel.rows)
        key = f"p{number}"
        largest = panel.budgets[-1]
        if len(panel.bytes_of) > 1:
            found += [
                memory_chart(panel, styles, f"{key}memory{letter}", metric, name)
                for letter, metric, name in (("a", "a_avg", "A_avg"), ("l", "a_last", "A_last"))
            ]
        found += [
            stream_chart(panel, styles, f"{key}stream{place}", budget)
            for place, budget in enumerate(panel.budgets)
        ]
        found.append(kinds_chart(panel, f"{key}kinds"))
        heat = heat_maps(panel, f"{key}heat", largest)
        found += [heat] if heat else []
        found += [
            compute_chart(panel, styles, f"{key}{name}", name, label, scale)
            for name, label, scale in (
                ("flops", "training, TFLOP", 1e12),
                ("train_seconds", "training, s", 1.0),
            )
        ]
        if gathered.seeds > 1:
            paired = paired_chart(gathered, panel, f"{key}paired")
            found += [paired] if paired else []
    ranked_blocks = ranks(gathered, "a_avg")
    if isinstance(ranked_blocks, Ranks):
        found.append(difference_diagram(ranked_blocks, "ranks"))
    return found


def memory_chart(panel: Panel, styles: Styles, key: str, metric: str, name: str) -> Picture:
    """Accuracy against the budget, a line a row."""
    canvas = Canvas(key)
    axes = canvas.axes
    for row in panel.rows:
        points = []
        for budget in panel.budgets:
            values = panel.values(budget, row, metric)
            if values and budget in panel.bytes_of:
                mean = interval(list(values.values()))
                points.append((panel.bytes_of[budget] / MIB, mean, budget))
        if not points:
            continue
        x = [at for at, _, _ in points]
        y = [100 * mean.mean for _, mean, _ in points]
        half = [100 * (mean.half_width or 0) for _, mean, _ in points]
        axes.errorbar(x, y, half, label=row, capsize=2, elinewidth=0.8, **styles[row])
        for at, mean, budget in points:
            words = f"{row} at {budget}: {name} {_percent(mean)}"
            add_point(canvas, axes, at, 100 * mean.mean, words)
    axes.set_xlabel("budget, MB (2²⁰ bytes)")
    axes.set_ylabel(f"{name}, %")
    axes.set_xscale("log")
    ticks = [size / MIB for size in sorted(panel.bytes_of.values())]
    axes.set_xticks(ticks, [f"{value:.3g}" for value in ticks])
    axes.minorticks_off()
    add_legend(canvas, axes)
    return canvas.picture(f"{panel.label}: {name} against memory; bars are 95 % intervals over seeds.")


def stream_chart(panel: Panel, styles: Styles, key: str, budget: str) -> Picture:
    """Accuracy on the classes seen so far over the stream, a line a row."""
    canvas = Canvas(key)
    axes = canvas.axes
    for row in panel.rows:
        curves = [dict(result.curve) for result in panel.complete(budget, row) if result.curve]
        if not curves:
            continue
        common = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [
            (at, interval([curve[at] for curve in curves]))
            for at in common
            if all(curve[at] == curve[at] for curve in curves)
        ]
        x = [at for at, _ in means]
        y = [100 * mean.mean for _, mean in means]
        half = [100 * (mean.half_width or 0) for _, mean in means]
        every = max(1, len(x) // 8)
        axes.plot(x, y, label=row, markevery=every, **styles[row])
        bands = [[a + sign * b for a, b in zip(y, half, strict=True)] for sign in (-1, 1)]
        axes.fill_between(x, bands[0], bands[1], color=styles[row]["color"], alpha=0.12, linewidth=0)
        for at, mean in means[:: max(1, len(means) // 24)]:
            add_point(canvas, axes, at, 100 * mean.mean, f"{row}, sample {at:,}: {_percent(mean)}")
    axes.set_ylim(0, 100)
    axes.set_xlabel("samples served")
    axes.set_ylabel("accuracy on classes seen so far, %")
    add_legend(canvas, axes)
    return canvas.picture(
        f"{panel.label} at {budget_text(panel, budget)}: accuracy over the stream; bands are 95 % intervals."
    )


def kinds_chart(panel: Panel, key: str) -> Picture:
    """The most that every row held, by kind, stacked; a bar a budget."""
    shown = []
    for row in panel.rows:
        ways = {budget: panel.results.get((budget, row), ()) for budget in panel.budgets}
        folders = [results[0].folder for results in ways.values() if results]
        same = len(folders) == len(ways) and len(set(folders)) == 1  # it keeps no exemplars
        for budget, results in list(ways.items())[: 1 if same else None]:
            held = next((result.held for result in results if result.held), None)
            if held:
                shown.append((row, "every budget" if same and len(ways) > 1 else budget, held))
    canvas = Canvas(key, height=max(2.2, 0.24 * len(shown) + 1.4))
    axes = canvas.axes
    kinds = [kind for kind in KINDS if any(held.get(kind) for _, _, held in shown)]
    for number, kind in enumerate(kinds):
        left = [sum(held.get(other, 0) for other in kinds[:number]) / MIB for _, _, held in shown]
        widths = [held.get(kind, 0) / MIB for _, _, held in shown]
        drawn = axes.barh(
            range(len(shown)), widths, left=left, label=kind, color=COLOURS[number % len(COLOURS)],
            hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        for bar, (row, budget, held) in zip(drawn, shown, strict=True):
            canvas.say(bar, f"{row} at {budget}: {kind} {readable_bytes(held.get(kind, 0))}")
    several = len(panel.budgets) > 1
    names = [
        f"{shortened(row, 22)} · {shortened(budget, 16)}" if several else shortened(row)
        for row, budget, _ in shown
    ]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("held, MB (2²⁰ bytes)")
    add_legend(canvas, axes)
    return canvas.picture(f"{panel.label}: the most that was held, by kind, teachers and labels included.")


def heat_maps(panel: Panel, key: str, budget: str) -> Picture | None:
    """Accuracy on every task after every task, the mean over seeds, a map a row."""
    maps = {}
    for row in ranked(panel):
        matrices = [result.matrix for result in panel.complete(budget, row) if result.matrix]
        if matrices and len(matrices[0]) > 1:
            maps[row] = [
                [_mean([matrix[i][j] for matrix in matrices]) for j in range(len(matrices[0]))]
                for i in range(len(matrices[0]))
            ]
    if not maps:
        return None
    columns = min(3, len(maps))
    lines = math.ceil(len(maps) / columns)
    canvas = Canvas(key, 1.75 * columns + 0.8, 1.75 * lines + 0.6, nrows=lines, ncols=columns, squeeze=False)
    image = None
    for axes, (row, matrix) in zip(canvas.axes.flat, maps.items(), strict=False):
        shown = [[math.nan if value is None else 100 * value for value in line] for line in matrix]
        image = axes.imshow(shown, cmap="cividis", vmin=0, vmax=100)
        size = len(shown)
        axes.set_title(shortened(row, 22), fontsize=8, loc="left")
        axes.set_xticks(range(size), range(1, size + 1), fontsize=7)
        axes.set_yticks(range(size), range(1, size + 1), fontsize=7)
        axes.grid(visible=False)
        if size <= 12:
            for i, line in enumerate(shown):
                for j, value in enumerate(line):
                    if value == value:
                        words = f"{row}: {value:.1f} % on task {j + 1} after task {i + 1}"
                        colour = "white" if value < 55 else "black"
                        at = axes.text(
                            j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour
                        )
                        canvas.say(at, words)
    for axes in list(canvas.axes.flat)[len(maps) :]:
        axes.set_visible(False)
    for axes in canvas.axes[:, 0]:
        axes.set_ylabel("after task", fontsize=8)
    for axes in canvas.axes[-1]:
        axes.set_xlabel("on task", fontsize=8)
    canvas.figure.colorbar(image, ax=canvas.axes, shrink=0.7, label="accuracy, %")
    return canvas.picture(
        f"{panel.label} at {budget_text(panel, budget)}: accuracy on each task after each task; "
        f"down a column is forgetting."
    )


def compute_chart(panel: Panel, styles: Styles, key: str, resource: str, label: str, scale: float) -> Picture:
    """Accuracy against what training cost, a point a row and budget."""
    from matplotlib import ticker

    canvas = Canvas(key)
    axes = canvas.axes
    for row in panel.rows:
        x, y = [], []
        for budget in panel.budgets:
            accuracy, cost = (panel.values(budget, row, name) for name in ("a_avg", resource))
            if not accuracy:
                accuracy = panel.values(budget, row, "a_last")
            if not accuracy or not cost:
                continue
            mean = interval(list(accuracy.values()))
            x.append(interval(list(cost.values())).mean / scale)
            y.append(100 * mean.mean)
            words = f"{row} at {budget}: {_percent(mean)}, {label} {x[-1]:,.3g}"
            add_point(canvas, axes, x[-1], y[-1], words)
        if x:
            axes.plot(x, y, label=row, **{**styles[row], "linestyle": ":", "linewidth": 0.8})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel(label)
    axes.set_ylabel("A_avg, %")
    add_legend(canvas, axes)
    spent = "operations" if resource == "flops" else "seconds"
    return canvas.picture(
        f"{panel.label}: accuracy against {spent} of training; a point a budget. What stands to the right "
        f"buys its accuracy with time."
    )


def paired_chart(gathered: Gathered, panel: Panel, key: str) -> Picture | None:
    """Differences from the reference with their simultaneous intervals, a column a budget."""
    budgets = [budget for budget in panel.budgets if reference_of(gathered, panel, budget, "a_avg")]
    drawn = {}
    for budget in budgets:
        reference = reference_of(gathered, panel, budget, "a_avg")
        values = {row: by_seed for row, by_seed in by_row(panel, budget, "a_avg").items() if by_seed}
        found = against(values, str(reference))
        if found:
            drawn[budget] = (str(reference), found)
    if not drawn:
        return None
    rows = max(len(found) for _, found in drawn.values())
    height = (0.24 * rows + 0.9) * len(drawn)
    canvas = Canvas(key, height=height + 0.3, nrows=len(drawn), squeeze=False, sharex=True)
    for axes, (budget, (reference, found)) in zip(canvas.axes[:, 0], drawn.items(), strict=True):
        for place, paired in enumerate(found):
            filled = "white" if paired.p_holm >= 0.05 else "black"
            axes.errorbar(
                100 * paired.mean, place, xerr=100 * paired.half_width, fmt="o", color="black",
                markerfacecolor=filled, capsize=2, elinewidth=0.8,
            )  # fmt: skip
            words = (
                f"{paired.row} minus {reference} at {budget}: {100 * paired.mean:+.1f} ± "
                f"{100 * paired.half_width:.1f} points, p {paired.p_holm:.3f}, n {paired.n}"
            )
            add_point(canvas, axes, 100 * paired.mean, place, words)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_yticks(range(len(found)), [shortened(paired.row) for paired in found], fontsize=8)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_title(f"{budget}: minus {shortened(reference)}", fontsize=9, loc="left")
        axes.grid(axis="y", visible=False)
    canvas.axes[-1, 0].set_xlabel("A_avg, points")
    return canvas.picture(
        f"{panel.label}: differences, paired by seed; the intervals of a budget hold together with "
        f"95 %. Filled: told apart (Holm)."
    )


def difference_diagram(found: Ranks, key: str) -> Picture:
    """Demšar's critical-difference diagram: mean ranks on a line, bars over rows that are not told apart."""
    order = sorted(found.means.items(), key=lambda item: item[1])
    canvas = Canvas(key, height=0.5 + 0.26 * len(order) + 0.3)
    axes = canvas.axes
    for place, (row, rank) in enumerate(order):
        axes.plot([rank, rank], [0, place + 1], color="grey", linewidth=0.7)
        text = f" {shortened(row)} ({rank:.2f})"
        at = axes.text(rank, place + 1, text, va="center", fontsize=8)
        canvas.say(at, f"{row}: mean rank {rank:.2f} over {found.blocks} blocks")
    level = 0.35
    for start, (_, rank) in enumerate(order):
        end = max(other for _, other in order if other - rank <= found.critical_difference)
        inside = start and any(end - other <= found.critical_difference for _, other in order[:start])
        if end > rank and not inside:
            axes.plot([rank - 0.03, end + 0.03], [level, level], color="black", linewidth=3)
            level += 0.22
    axes.set_ylim(len(order) + 0.6, 0)
    axes.set_xlim(0.8, len(order) + 1.2)
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.grid(visible=False)
    return canvas.picture(
        f"Mean ranks by A_avg over {found.blocks} blocks (scenario x seed); bars join rows closer than "
        f"the critical difference, {found.critical_difference:.2f} (Nemenyi, 5 %). Friedman's p "
        f"{found.p:.2g}."
    )


def _percent(mean: Any) -> str:
    half = "" if mean.half_width is None else f" ± {100 * mean.half_width:.1f}"
    return f"{100 * mean.mean:.1f}{half} %"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
