"""The driver of sessions: each is learned for several epochs, in shuffled batches, then evaluated.

RunStarted
for each session:
    ExperienceStarted; BaseTrained             of a base session, for those that train one
    begin_experience(view)
    for each epoch, for each batch:            but of a base session that was trained as such
        ClassesArrived                         for those whose first sample is in it
        observe(batch)                         updates_per_batch times
        remember(batch)                        in the last epoch; Progressed
        CheckpointWritten                      by the clock
    end_experience(view)
    consolidate(), predict(...): Evaluated, ExperienceEnded
RunEnded (or RunFailed)
"""

from __future__ import annotations

from ..randomness import Draws
from .stream_simulation import StreamSimulation


def run_sessions(simulation: StreamSimulation) -> None:
    """Drive the simulation from where it stands to the end of its last session."""
    plan, progress = simulation.plan, simulation.progress
    size = simulation.batch_size
    while progress.segment < len(plan.experiences):
        session = plan.experiences[progress.segment].indices
        if progress.epoch == 0 and progress.offset == 0:
            simulation.begin(progress.segment)
        while progress.epoch < simulation.epochs_of(progress.segment):
            draws = Draws(simulation.seed, "order", progress.segment, progress.epoch)
            order = simulation.order(session[draws.permutation(len(session))])
            while progress.offset < len(order):
                begin, end = progress.offset, progress.offset + size
                simulation.learn(order[begin:end], order[end : end + size])
                if progress.offset < len(order):
                    simulation.checkpoint_if_due()
            progress.epoch, progress.offset = progress.epoch + 1, 0
        simulation.end(progress.segment)
        simulation.evaluate_if_due()
        progress.segment, progress.epoch = progress.segment + 1, 0
        simulation.checkpoint_if_due()
