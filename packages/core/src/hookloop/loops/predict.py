"""Prediction: batches in, predictions out."""

from collections.abc import Callable
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
    if not any(overrides(run.module, LightningModule, method) for method in ("predict_step", "forward")):
        name = type(run.module).__name__
        raise MisconfigurationError(
            f"{name} defines neither predict_step() nor forward(), and trainer.predict() needs one of them. Define "
            "predict_step(self, batch, batch_idx), which returns the prediction for a batch."
        )
    loaders = run.loaders.evaluation("predict")
    run.loaders.tell_epoch("predict", run.progress.epoch)
    step = evaluation_step(run, "predict_step", len(loaders))
    streams = list(zip(loaders, run.loaders.batches["predict"], strict=True))
    predictions: list[list[Any]] = [[] for _ in streams]
    if any(run.loaders.batches["predict"]):
        _predict(run, step, streams, predictions if return_predictions else [])
    if not return_predictions:
        return None
    return predictions[0] if len(predictions) == 1 else predictions


def _predict(
    run: Run, step: Callable[..., Any], streams: list[tuple[Any, float]], predictions: list[list[Any]]
) -> None:
    hooks = run.hooks
    with eval_mode(run, "predict"), no_gradients(run.inference_mode), preemptible(run):
        hooks.on_predict_start()
        hooks.on_predict_epoch_start()
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
        for batch_idx, batch, _ in batches_of(run, "[_PredictionLoop].predict_next", stream, count):
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
