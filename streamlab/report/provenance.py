"""Where a report's numbers come from: versions, machines, streams, and the commands that make them again."""

from __future__ import annotations

from collections.abc import Iterable

from .panel import Gathered


def provenance_of(gathered: Gathered) -> list[tuple[str, str]]:
    """(name, text) pairs, none empty."""
    made = [result.about.get("provenance", {}) for result in gathered.results if result.about]
    specs = [result.spec for result in gathered.results]
    pairs = [
        (
            "packages",
            _each(", ".join(f"{n} {v}" for n, v in about.get("packages", {}).items()) for about in made),
        ),
        (
            "machine",
            _each(
                f"{about.get('system')}, {about.get('processors')} processors, Python {about.get('python')}"
                for about in made
            ),
        ),
        ("device", _each(f"{spec.device}, {spec.compute.precision}" for spec in specs)),
        (
            "form",
            _each(
                f"{about.get('threads')} thread, {about.get('layout')}, sgd of {about.get('sgd')}"
                for about in made
            ),
        ),
        ("made", _span(about.get("created", "") for about in made)),
        ("sources", _each(f"{spec.source} {spec.source_digest[:16]}" for spec in specs)),
    ]
    for panel in gathered.panels:
        plans = {
            about.spec.seed: about.spec.plan_fingerprint[:16]
            for results in panel.results.values()
            for about in results
        }
        text = ", ".join(f"seed {seed}: {plan}" for seed, plan in sorted(plans.items()))
        pairs.append((f"plans of {panel.label}", text))
    runs = gathered.results
    lost = sum(result.status != "complete" for result in runs)
    pairs.append(
        ("runs", f"{len(runs)}, of which {lost} did not complete" if lost else f"{len(runs)}, all complete")
    )
    pairs.append(
        ("goes on, or makes the report again", "; ".join(f"streamlab resume {f}" for f in gathered.folders))
    )
    pairs.append(("only the report", f"streamlab report {' '.join(gathered.folders)}"))
    return [(name, text) for name, text in pairs if text]


def _each(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _span(times: Iterable[str]) -> str:
    known = sorted(filter(None, times))
    return "" if not known else known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
