"""The driver of online streams: every sample is served once, in the plan's order.

RunStarted
for each experience:                           clock.delay: until the last image has come
    begin_experience(view)                     where boundaries are shown
    for each batch:                            none spans experiences, shown or hidden
        predict(...), arrive(images)           of what comes: --record arrivals, clock.delay
        ExperienceStarted, ClassesArrived      for those whose first sample is in it
        observe(batch)                         updates_per_batch times
        remember(batch)                        once; Progressed
        consolidate(), predict(...)            where a regular point is reached: Evaluated
        CheckpointWritten                      by the clock
    end_experience(view)                       where shown
    consolidate(), predict(...): Evaluated, ExperienceEnded
RunEnded (or RunFailed)
"""

from __future__ import annotations

from .stream_simulation import StreamSimulation


def run_online(simulation: StreamSimulation) -> None:
    """Drive the simulation from where it stands to the end of its stream."""
    plan, progress = simulation.plan, simulation.progress
    shown, size = plan.shows_boundaries, simulation.batch_size
    while progress.segment < len(plan.experiences):
        order = simulation.order(plan.experiences[progress.segment].indices)
        if shown and progress.offset == 0:
            simulation.begin(progress.segment)
        while progress.offset < len(order) and progress.samples_seen < simulation.last_label:
            begin, end = progress.offset, progress.offset + size
            simulation.learn(order[begin:end], order[end : end + size])
            if progress.offset < len(order):
                simulation.evaluate_if_due()
                simulation.checkpoint_if_due()
        if shown:
            simulation.end(progress.segment)
        simulation.evaluate_if_due()
        progress.segment, progress.offset = progress.segment + 1, 0
        simulation.checkpoint_if_due()
