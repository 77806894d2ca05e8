"""Prediction: batches in, predictions out."""

from collections.abc import Callable, Iterator
from typing import Any

from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import fetches_batches, overrides
from hookloop.loops.attention import attend
from hookloop.loops.evaluate import eval_mode, evaluation_step, no_gradients
from hookloop.loops.parts import batches_of
from hookloop.loops.signals import preemptible
from hookloop.loops.transfer import transfer_function
from hookloop.module import LightningModule
from hookloop.run import Run


def predict(run: Run, return_predictions: bool) -> list[Any] | None:
    """Run all batches of the predict loaders.

        on_predict_model_eval
        on_predict_start, on_predict_epoch_start
        for each loader, for each batch:
            batch to the device
            on_predict_batch_start, predict_step, on_predict_batch_end
            if SIGTERM has come: on_preemption, and the run ends
        on_predict_epoch_end, on_predict_end
        on_predict_model_train, or every submodule's mode as it was

    Without a single batch nothing of this happens: no hook is called.

    Args:
        run: the run.
        return_predictions: whether to keep what predict_step returned.

    Raises:
        MisconfigurationError: the module defines neither predict_step nor forward.

    Returns:
        The predictions of each batch, in a list for each loader if there are several; None if none were to be kept.
    """
    step, streams = _begin(run)
    predictions: list[list[Any]] = [[] for _ in streams]
    if any(run.loaders.batches["predict"]):
        _predict(run, step, streams, predictions if return_predictions else [])
    if not return_predictions:
        return None
    return predictions[0] if len(predictions) == 1 else predictions


def predictions(run: Run) -> Iterator[Any]:
    """The same, batch by batch: yields what predict_step returned, loader after loader.

    Whoever asks for the next one is not inside of torch.no_grad meanwhile, and the module stays in eval mode until all
    batches are done, or the iterator is closed. Then on_predict_epoch_end and on_predict_end are not called.

    Raises:
        MisconfigurationError: see `predict`; or the module's predict_step takes a dataloader_iter.
    """
    step, streams = _begin(run)
    if fetches_batches(run.module, "predict_step"):
        raise MisconfigurationError(
            f"{type(run.module).__name__}.predict_step takes a dataloader_iter, and trainer.predict_iter() works with "
            "predict_step(self, batch, batch_idx). Use trainer.predict()."
        )
    if not any(run.loaders.batches["predict"]):
        return
    with eval_mode(run, "predict"), preemptible(run):
        steps = _steps(run, step, streams)
        while True:
            with no_gradients(run.inference_mode):
                item = next(steps, _NO_MORE)
            if item is _NO_MORE:
                return
            yield item
            del item  # not kept while the next one is made


_NO_MORE = object()


def _begin(run: Run) -> tuple[Callable[..., Any], list[tuple[Any, float]]]:
    """The step, and the loaders with their numbers of batches."""
    if not any(overrides(run.module, LightningModule, method) for method in ("predict_step", "forward")):
        name = type(run.module).__name__
        raise MisconfigurationError(
            f"{name} defines neither predict_step() nor forward(), and trainer.predict() needs one of them. Define "
            "predict_step(self, batch, batch_idx), which returns the prediction for a batch."
        )
    loaders = run.loaders.evaluation("predict")
    run.loaders.tell_epoch("predict", run.progress.epoch)
    step = evaluation_step(run, "predict_step", len(loaders))
    return step, _streams(run)


def _streams(run: Run) -> list[tuple[Any, float]]:
    """The loaders with their numbers of batches; asked again after the first hooks, which may have them forgotten."""
    return list(zip(run.loaders.evaluation("predict"), run.loaders.batches["predict"], strict=True))


def _predict(
    run: Run, step: Callable[..., Any], streams: list[tuple[Any, float]], predictions: list[list[Any]]
) -> None:
    hooks = run.hooks
    with eval_mode(run, "predict"), no_gradients(run.inference_mode), preemptible(run):
        hooks.on_predict_start()
        hooks.on_predict_epoch_start()
        streams = _streams(run)
        if fetches_batches(run.module, "predict_step"):
            from hookloop.loops.fetching import evaluate_fetching  # a rare kind of step

            evaluate_fetching(run, "predict", step, streams, predictions)
        else:
            _predict_batches(run, step, streams, predictions)
        hooks.on_predict_epoch_end()
        hooks.on_predict_end()


def _predict_batches(
    run: Run, step: Callable[..., Any], streams: list[tuple[Any, float]], predictions: list[list[Any]]
) -> None:
    hooks, recorder, transfer = run.hooks, run.recorder, transfer_function(run)
    several = len(streams) > 1
    for dataloader_idx, (stream, count) in enumerate(streams):
        which = (dataloader_idx,) if several else ()
        samples = run.loaders.samples
        for batch_idx, batch, _ in _batches(run, stream, count, dataloader_idx, leaves_out=not predictions):
            if samples is not None:
                samples.arrive()
            if transfer is not None:
                batch = transfer(batch, dataloader_idx)
            hooks.on_predict_batch_start(batch, batch_idx, *which)
            recorder.hook = "predict_step"
            prediction = step(batch, batch_idx, *which)
            recorder.hook = None
            hooks.on_predict_batch_end(prediction, batch, batch_idx, *which)
            if predictions:
                predictions[dataloader_idx].append(prediction)
            if run.state.attention:
                attend(run)


def _steps(run: Run, step: Callable[..., Any], streams: list[tuple[Any, float]]) -> Iterator[Any]:
    """`_predict` as an iterator. Written out, because a batch of a prediction that is not one pays for no generator."""
    hooks, recorder, transfer = run.hooks, run.recorder, transfer_function(run)
    hooks.on_predict_start()
    hooks.on_predict_epoch_start()
    streams = _streams(run)
    several = len(streams) > 1
    for dataloader_idx, (stream, count) in enumerate(streams):
        which = (dataloader_idx,) if several else ()
        samples = run.loaders.samples
        for batch_idx, batch, _ in _batches(run, stream, count, dataloader_idx, leaves_out=False):
            if samples is not None:
                samples.arrive()
            if transfer is not None:
                batch = transfer(batch, dataloader_idx)
            hooks.on_predict_batch_start(batch, batch_idx, *which)
            recorder.hook = "predict_step"
            prediction = step(batch, batch_idx, *which)
            recorder.hook = None
            hooks.on_predict_batch_end(prediction, batch, batch_idx, *which)
            if run.state.attention:
                attend(run)
            yield prediction
            del prediction, batch  # not kept while the next ones are made
    hooks.on_predict_epoch_end()
    hooks.on_predict_end()


def _batches(
    run: Run, stream: Any, count: float, dataloader_idx: int, leaves_out: bool
) -> Iterator[tuple[int, Any, bool]]:
    """The batches of a loader, from the first one that is of use: where all are to be returned, from the first."""
    name, samples = "[_PredictionLoop].predict_next", run.loaders.samples
    if samples is None:
        return batches_of(run, name, stream, count)
    begin = int(min(samples.begin(dataloader_idx), count)) if leaves_out else 0
    stream, unread = samples.follow(stream, dataloader_idx, begin)
    if unread == begin:
        return batches_of(run, name, stream, count, skip=begin)
    return ((begin + index, *rest) for index, *rest in batches_of(run, name, stream, count - begin))
