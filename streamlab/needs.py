"""What a strategy needs of a plan and of a budget; where that lacks, it is refused, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from .plans.episodes import EpisodePlan
from .plans.stream import Plan, StreamPlan

_KINDS = {"online": "an online stream", "sessions": "sessions", "episodes": "episodes"}
STREAMS = frozenset({"online", "sessions"})
EPISODES = frozenset({"episodes"})
SESSIONS = frozenset({"sessions"})


@dataclass(frozen=True)
class Needs:
    """What must be there before a strategy can learn.

    kinds: the experiences that it learns from (online, sessions, episodes). boundaries: it must be told where
    experiences begin and end. new_classes: every experience must bring classes that none before had.
    learning_backbone: with a frozen one there would be nothing to learn. exemplars_per_class: what its
    buffers must hold at least. same_way: it has an output for each class of an episode, and must be tested in
    the way that it was trained in. plain_training: it trains by a loop of its own, which follows no schedule,
    clips no gradient, and augments nothing. transductive: all queries of an episode, which it classifies
    together; wherever it is run, that is told.
    """

    kinds: frozenset[str] = STREAMS
    boundaries: bool = False
    new_classes: bool = False
    learning_backbone: bool = False
    exemplars_per_class: int = 0
    same_way: bool = False
    plain_training: bool = False
    transductive: bool = False

    def refusal(self, name: str, plan: Plan, base: bool) -> str | None:
        """Why a strategy of this name cannot learn from this plan, in a sentence; None means that it can.

        base: whether its network is trained on a base session first.
        """
        if plan.kind not in self.kinds:
            takes = " or ".join(_KINDS[kind] for kind in sorted(self.kinds))
            hint = "; --set scenario.kind=sessions makes it some" if "kind" in plan.options else ""
            return f"{name} learns from {takes}, and {plan.scenario} is {_KINDS[plan.kind]}{hint}"
        if isinstance(plan, EpisodePlan):
            return self._refusal_of_episodes(name, plan)
        if base and not plan.has_base:
            return f"{name} needs a base session, as fscil has, and {plan.scenario} has none"
        if self.boundaries and not plan.shows_boundaries:
            return (
                f"{name} needs task boundaries, and {plan.scenario} hides them; "
                f"show them with --set scenario.boundaries=shown"
            )
        if self.new_classes and any(not fresh for fresh in new_classes(plan)):
            return (
                f"{name} learns classes that are new with each experience, and {plan.scenario} has "
                f"experiences without any"
            )
        return None

    def _refusal_of_episodes(self, name: str, plan: EpisodePlan) -> str | None:
        train, test = plan.train.way, plan.test.way
        if not self.same_way or train == test:
            return None
        return (
            f"{name} has an output for each class of an episode, so that it must be tested as it is "
            f"trained: scenario.train_way is {train}, and scenario.way {test}"
        )


def new_classes(plan: StreamPlan) -> list[frozenset[int]]:
    """Of each experience, the classes that none before had."""
    fresh, known = [], frozenset[int]()
    for experience in plan.experiences:
        fresh.append(frozenset(experience.classes) - known)
        known |= fresh[-1]
    return fresh
