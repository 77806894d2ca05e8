"""Steps that fetch their batches themselves: `training_step(self, dataloader_iter)` and its like."""

from collections.abc import Callable, Iterator
from typing import Any

from hookloop.loaders.feed import DataLoaderIter, Fetched
from hookloop.loops.attention import attend
from hookloop.run import Run
from hookloop.stage import RunningStage


def fetched_by(step: Callable[..., Any], feed: DataLoaderIter) -> Callable[..., Any]:
    """A step to call with a batch and its index, which gets `feed` instead."""
    return lambda batch, batch_idx: step(feed)


def fed(
    run: Run, feed: DataLoaderIter, batches: Iterator[tuple[int, Any, bool]], length: float, skipped: int
) -> Iterator[tuple[int, Any, bool]]:
    """Begin an epoch of training; for each step, the batch that it will fetch first."""
    feed.begin(
        (Fetched(batch, index, 0, is_last) for index, batch, is_last in _sure_to_come(run, batches)), length, skipped
    )
    return ((index, batch, is_last) for batch, index, _, is_last in feed.upcoming())


def _sure_to_come(run: Run, batches: Iterator[tuple[int, Any, bool]]) -> Iterator[tuple[int, Any, bool]]:
    """The batches. A step that goes on fetching does not wait for a worker whose death was kept back."""
    while True:
        if run.state.lost_worker is not None:
            raise run.state.lost_worker
        item = next(batches, None)
        if item is None:
            return
        yield item


def drop_step(run: Run) -> None:
    """Leave a training step that asked for more batches than there were as if it had not begun."""
    run.recorder.hook = None
    run.progress.window_filled -= 1
    run.progress.batch_counted = True


def evaluate_fetching(
    run: Run, kind: str, step: Callable[..., Any], streams: list[tuple[Any, float]], predictions: list[list[Any]]
) -> None:
    """Validate, test or predict with a step that fetches from all loaders, one after another.

    The hooks before a step get the batch that it will fetch first, those after it the one that it fetched last. A step
    that asks for more than there are ends the evaluation, without the hook after it.

    Args:
        run: the run.
        kind: "validation", "test" or "predict".
        step: the module's, as the strategy runs it.
        streams: the loaders, and how many batches of each are used.
        predictions: a list for each loader, to which what the step returned is added; none if it is not kept.
    """
    hooks, recorder, log_every = run.hooks, run.recorder, run.limits.log_every_n_steps
    batch_start, step_name, batch_end = f"on_{kind}_batch_start", f"{kind}_step", f"on_{kind}_batch_end"
    several, measures = len(streams) > 1, kind != "predict"
    sends_steps = measures and run.state.stage is not RunningStage.SANITY_CHECKING and log_every > 0
    feed = DataLoaderIter()
    feed.begin(_all_of(run, streams), sum(count for _, count in streams))
    try:
        for batch, batch_idx, dataloader_idx, _ in feed.upcoming():
            which = (dataloader_idx,) if several else ()
            if measures:
                recorder.begin_loader(dataloader_idx if several else None)
                recorder.batch = batch
                recorder.batch_size = None
            getattr(hooks, batch_start)(batch, batch_idx, *which)
            recorder.hook = step_name
            outputs = step(feed)
            recorder.hook = None
            if feed.last is not None:
                batch, batch_idx, dataloader_idx, _ = feed.last
                which = (dataloader_idx,) if several else ()
            getattr(hooks, batch_end)(outputs, batch, batch_idx, *which)
            if predictions:
                predictions[dataloader_idx].append(outputs)
            if sends_steps:
                recorder.keep_step(run.progress.epoch)
                if recorder.kept_steps >= log_every:
                    recorder.send_kept_steps()
            if run.state.attention:
                attend(run)
    except StopIteration:
        if not feed.done:
            raise
        recorder.hook = None
    if measures:
        recorder.send_kept_steps()


def _all_of(run: Run, streams: list[tuple[Any, float]]) -> Iterator[Fetched]:
    for dataloader_idx, (stream, count) in enumerate(streams):
        for batch_idx, batch, is_last in _sure_to_come(run, run.loaders.iterate(stream, count)):
            yield Fetched(batch, batch_idx, dataloader_idx, is_last)
