"""The driver of episodes: meta-training, judged on meta-validation now and then, and at last meta-test.

RunStarted
BaseTrained                            for those that learn the classes of meta-training at large
for each batch of training episodes:   but for those
    observe_episodes(batch)            updates_per_batch times; Progressed
    predict_episodes(...): Evaluated   of meta-validation, where a point is reached
    CheckpointWritten                  by the clock
the weights that were best on meta-validation come back, unless the last are kept
predict_episodes(...): Evaluated, ExperienceEnded    of meta-test, clean
for each environment:
    predict_episodes(...): EnvironmentTested         of meta-test in it
    CheckpointWritten                                by the clock
RunEnded (or RunFailed)
"""

from __future__ import annotations

from .episode_simulation import EpisodeSimulation


def run_episodes(simulation: EpisodeSimulation) -> None:
    """Drive the simulation from where it stands to the end of its tests."""
    progress, count = simulation.progress, len(simulation.plan.train)
    if progress.samples_seen == 0 and progress.segment == 0:
        simulation.begin()
    while progress.samples_seen < count:
        simulation.learn(progress.samples_seen)
        simulation.evaluate_if_due()
        simulation.checkpoint_if_due()
    if progress.segment == 0:
        simulation.settle()
    for environment in simulation.left:
        simulation.test(environment)
        simulation.checkpoint_if_due()
