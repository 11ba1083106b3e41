"""The promises of a strategy: one function each, whose docstring is the promise and why it matters.

A check raises Broken; returning is keeping. Each has a culprit in the tests: a strategy broken on
purpose, which it must catch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from ..config import Budget
from ..errors import BudgetExceeded
from ..plans.stream import StreamPlan
from ..randomness import take_host_state
from ..runs.folder import RunFolder
from ..simulator.episode_simulation import EpisodeSimulation
from ..simulator.execute import drive
from .probes import (
    KilledHalfWay,
    Weighed,
    answer,
    held_outside,
    other_bytes,
    scores_of,
    serve_by_hand,
    weighing,
    with_opposite_base,
)
from .subject import (
    CLASSES,
    Broken,
    Killed,
    NoState,
    Subject,
    as_in_a_run,
    difference,
    state_of,
    tiny_episodes,
    tiny_source,
)
from .surroundings import (
    check_keeps_images_as_they_lie,
    check_serves_other_networks,
    check_stays_on_its_device,
)

Check = Callable[[Subject], None]


def strategy_checks() -> Iterator[Check]:
    """Every check, in the order in which to run them."""
    yield check_it_runs
    yield check_same_seed_same_bits
    yield check_state_lives_in_attributes
    yield check_state_round_trips
    yield check_resumes_mid_stream
    yield check_leaves_global_generators_alone
    yield check_every_byte_has_a_kind
    yield check_keeps_its_budget
    yield check_buffers_draw_apart
    yield check_trains_its_own_base
    yield check_stops_growing
    yield check_scores_every_class
    yield check_predictions_leave_no_trace
    yield check_episodes_leave_no_trace
    yield check_survives_small_experiences
    yield check_takes_labels_in_any_order
    yield check_serves_other_networks
    yield check_keeps_images_as_they_lie
    yield check_stays_on_its_device


def check_it_runs(subject: Subject) -> None:
    """It runs a small stream from start to end.

    What fails here fails within seconds instead of an hour into a run on a GPU.
    """
    subject.run()


def check_same_seed_same_bits(subject: Subject) -> None:
    """The same seed gives the same bits.

    Else no figure can be reproduced, and differences between strategies drown in differences between
    runs. Draw from self.setting.seed by name (streamlab.randomness), or from torch's global generator.
    """
    name = difference(state_of(subject.run().strategy), state_of(subject.run().strategy))
    if name is not None:
        raise Broken(f"two runs of one seed end with another {name}", subject.line_of(f"self.{name}"))


def check_state_lives_in_attributes(subject: Subject) -> None:
    """All its state lives in attributes of the instance.

    What lies in a class, a module or a global is neither counted, nor checkpointed, nor reset between
    the seeds that one worker runs.
    """
    before = held_outside(subject)
    subject.run()
    for name, content in held_outside(subject).items():
        if before.get(name) != content:
            raise Broken(
                f"{name} changed during a run, and is no attribute of the instance", subject.line_of(name)
            )


def check_state_round_trips(subject: Subject) -> None:
    """Its state can be taken down and put into a new instance.

    A run that was killed goes on from such a state; what does not come back changes its results.
    """
    strategy = subject.run().strategy
    try:
        taken = state_of(strategy)
        fresh = subject.make()
        fresh.account.put_state(*taken)
    except NoState as error:
        attribute = str(error).split(" ")[0].split(".")[0]
        raise Broken(str(error), subject.line_of(f"self.{attribute}")) from error
    name = difference(taken, state_of(fresh))
    if name is not None:
        raise Broken(f"{name} does not come back as it was", subject.line_of(f"self.{name}"))
    if not torch.equal(scores_of(strategy), scores_of(fresh)):
        raise Broken("an instance with the same state predicts otherwise", subject.line_of("def predict"))


def check_resumes_mid_stream(subject: Subject) -> None:
    """Killed in mid-experience and resumed, it ends with the same bits.

    Runs of hours are killed: by queues, by laptops, by people.
    """
    whole = state_of(subject.run(seed=1).strategy)
    with tempfile.TemporaryDirectory() as place:
        plan = subject.plan()
        if subject.strategy.learns_jointly and isinstance(plan, StreamPlan):
            plan = plan.merged()
        spec = subject.spec(plan)
        folder = RunFolder.create(Path(place) / "run", spec, plan, (), subject.strategy)
        with contextlib.suppress(Killed):
            subject.run(seed=1, plan=plan, folder=folder, watch=KilledHalfWay)
        folder.close_log()
        resumed = subject.run(seed=1, plan=plan, folder=folder)
        folder.close_log()
    name = difference(whole, state_of(resumed.strategy))
    if name is not None:
        raise Broken(f"resumed, it ends with another {name} than unbroken", subject.line_of(f"self.{name}"))


def check_leaves_global_generators_alone(subject: Subject) -> None:
    """It leaves numpy's, Python's and torch's global generators alone.

    Drawing from torch's is allowed, since the kernel seeds it at every step. Other global draws depend on
    who drew before: with another strategy in the process the result changes.
    streamlab.randomness.generator(seed, *path) draws by name.
    """
    simulation = subject.simulation()
    seeded: list[str] = []

    def record(*arguments: Any) -> None:
        frame = sys._getframe(1)
        if frame.f_code.co_filename == subject.file:
            seeded.append(f"{Path(subject.file).name}, line {frame.f_lineno}")

    before = take_host_state()
    with mock.patch.object(torch, "manual_seed", record), as_in_a_run():
        serve_by_hand(simulation)
    numpys, pythons = take_host_state()
    if seeded:
        raise Broken("it seeds torch's global generator", seeded[0])
    if numpys != before[0]:
        raise Broken("it draws from numpy's global generator", subject.line_of("np.random."))
    if pythons != before[1]:
        raise Broken("it draws from Python's global generator", subject.line_of("random."))


def check_every_byte_has_a_kind(subject: Subject) -> None:
    """The ledger finds a kind for every byte that it holds.

    A report that shows bytes as "other" cannot be compared; ledger_kinds = {"attribute": "statistics"}
    says what an attribute is (model, exemplars, statistics, extra models, prompts).
    """
    strategy = subject.run().strategy
    others = strategy.account.ledger().bytes_by_kind.get("other", 0)
    if others:
        names = [name for name in vars(strategy) if other_bytes(subject, strategy, name)]
        where = subject.line_of(f"self.{names[0]}") if names else ""
        raise Broken(f"{', '.join(names) or 'something'} holds {others} bytes of no kind", where)


def check_keeps_its_budget(subject: Subject) -> None:
    """It holds no more than its budget, at any step.

    A comparison at aligned budgets is only as fair as each side's honesty. What it will hold later (a
    teacher) is set aside by bytes_to_come().
    """
    if subject.strategy.learns_jointly:
        return
    strategy = subject.make()
    plan = subject.plan()
    experiences = len(plan.experiences) if isinstance(plan, StreamPlan) else 1
    needed = strategy.account.ledger().total + strategy.bytes_to_come(experiences)
    exemplars = max(4, subject.strategy.needs.exemplars_per_class * CLASSES)
    budget = Budget(
        bytes=needed + sum(exemplars * buffer.exemplar_bytes for buffer in strategy.account.buffers)
    )
    try:
        simulation = subject.simulation(budget=budget, watch=Weighed)
        with as_in_a_run():
            drive(simulation)
    except BudgetExceeded as error:
        raise Broken(
            str(error), subject.line_of("def bytes_to_come") or subject.line_of("def setup")
        ) from error


def check_buffers_draw_apart(subject: Subject) -> None:
    """Each of its buffers chooses by draws of its own.

    Buffers of one name hold and give the same samples, so that two memories are one. make_buffer names
    them; one that is copied or made by hand wants another name.
    """
    names = [buffer.name for buffer in subject.make().account.buffers]
    for name in names:
        if names.count(name) > 1:
            raise Broken(f"{names.count(name)} buffers are named {name!r}", subject.line_of("buffer"))


def check_trains_its_own_base(subject: Subject) -> None:
    """Its base session learns the same whatever was trained before it.

    A base network is kept for all runs that would train the same; one that remembers another's training is
    another method's.
    """
    if subject.strategy.base is None:
        return
    fresh = state_of(subject.run().strategy)
    other = with_opposite_base(subject)
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, XDG_CACHE_HOME=cache):
        other.run()
        name = difference(fresh, state_of(subject.run().strategy))
    if name is not None:
        raise Broken(f"after another base training its {name} is another", subject.line_of("base"))


def check_stops_growing(subject: Subject) -> None:
    """Once its buffers are full and all classes seen, it grows no more.

    What grows with the stream's length ends any long run, and its budget with it.
    """
    everything = tuple(range(CLASSES))
    rows = [np.arange(len(tiny_source().train_labels))] * 3
    sizes: list[int] = []
    plan = tiny_episodes(count=24) if subject.episodic else subject.stream([everything] * 3, rows)
    subject.run(plan=plan, watch=weighing(sizes))
    if len(sizes) > 1 and sizes[-1] > sizes[0]:
        raise Broken(
            f"it holds {sizes[0]} bytes after a pass over all classes, and {sizes[-1]} after two more",
            subject.line_of("def remember"),
        )


def check_scores_every_class(subject: Subject) -> None:
    """predict scores every class of the plan, each class seen by a finite number.

    The kernel masks classes that were not seen yet; a strategy that returns columns for some classes
    alone would be judged on other columns than it meant.
    """
    if subject.episodic:
        scores = scores_of(subject.run().strategy)
    else:
        strategy = subject.run(plan=subject.stream([(0, 1), (2, 3)])).strategy
        scores = scores_of(strategy)[:, strategy.exposed]
    if not torch.isfinite(scores).all():
        line = subject.line_of("def predict") or subject.line_of("def classify")
        raise Broken("predict returned a score that is not finite for a class that it has seen", line)


def check_predictions_leave_no_trace(subject: Subject) -> None:
    """Predicting changes nothing: same images, same scores, same state.

    Else how often a run is evaluated changes what it learns, and test images leak into it.
    """
    strategy = subject.run().strategy
    before = state_of(strategy)
    first, second = scores_of(strategy), scores_of(strategy)
    line = (
        subject.line_of("def predict") or subject.line_of("def classify") or subject.line_of("def features")
    )
    if not torch.equal(first, second):
        raise Broken("the same images get other scores the second time", line)
    name = difference(before, state_of(strategy))
    if name is not None:
        raise Broken(f"predicting changed {name}", line)


def check_episodes_leave_no_trace(subject: Subject) -> None:
    """An episode's answers do not depend on the episodes before it, or beside it.

    What adapts to a support must forget it: else test episodes teach, and the order of a test set decides
    its figures.
    """
    if "episodes" not in subject.strategy.needs.kinds:
        return
    plan = tiny_episodes()
    simulation = subject.run(plan=plan)
    strategy, line = simulation.strategy, ""
    for word in ("def predict_episodes", "def classify_episodes"):
        line = line if ", line" in line else subject.line_of(word)
    assert isinstance(simulation, EpisodeSimulation)
    strategy.train_mode(False)
    first, second = simulation.batch(0, 1), simulation.batch(1, 1)
    with torch.no_grad():
        alone = answer(strategy, first)
        answer(strategy, second)
        again = answer(strategy, first)
        both = answer(strategy, simulation.batch(0, 2))
    if not torch.equal(alone, again):
        raise Broken("an episode gets other scores after another episode was predicted", line)
    if not torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-4):
        raise Broken("an episode gets other scores beside another episode than alone", line)


def check_survives_small_experiences(subject: Subject) -> None:
    """It survives experiences of one sample, of one class, and of no sample.

    Stochastic streams have them: sooner or later a task gets no class of one kind, or no sample.
    """
    if subject.episodic:
        subject.run(plan=tiny_episodes(query=1, count=1))
        return
    labels = tiny_source().train_labels
    of_two = np.flatnonzero(labels == 2)
    rest = np.flatnonzero(labels != 2)
    rows = [of_two[:1], of_two[1:], np.zeros(0, np.int64), rest]
    subject.run(plan=subject.stream([(2,), (2,), (2,), (0, 1, 3, 4, 5)], rows))


def check_takes_labels_in_any_order(subject: Subject) -> None:
    """Classes may appear in any order.

    In a shuffled stream class 97 comes before class 3; a head of "largest label so far" columns, or a
    range of labels, is then wrong without a word.
    """
    if subject.episodic:  # an episode's labels are places
        return
    strategy = subject.run(plan=subject.stream([(5, 3), (4, 0)])).strategy
    if not torch.isfinite(scores_of(strategy)[:, strategy.exposed]).all():
        raise Broken(
            "a class of a high number, seen before lower ones, has no finite score",
            subject.line_of("def predict"),
        )
