"""Prediction: batches in, predictions out."""

from typing import Any

from hookloop.loaders import iterate
from hookloop.loops.evaluate import eval_mode, evaluation_step, no_gradients
from hookloop.loops.signals import end_preempted
from hookloop.loops.transfer import transfer_function
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

    Args:
        run: the run.
        return_predictions: whether to keep what predict_step returned.

    Returns:
        The predictions of each batch, in a list for each loader if there are several; None if none were to be kept.
    """
    hooks, recorder, state = run.hooks, run.recorder, run.state
    loaders = run.loaders.evaluation("predict")
    step = evaluation_step(run, "predict_step", len(loaders))
    transfer = transfer_function(run)
    several = len(loaders) > 1
    predictions: list[list[Any]] = []
    with eval_mode(run, "predict"), no_gradients(run.inference_mode):
        hooks.on_predict_start()
        hooks.on_predict_epoch_start()
        for dataloader_idx, (loader, count) in enumerate(zip(loaders, run.loaders.batches["predict"], strict=True)):
            which = (dataloader_idx,) if several else ()
            kept: list[Any] = []
            for batch_idx, batch, _ in iterate(loader, count):
                if transfer is not None:
                    batch = transfer(batch, dataloader_idx)
                hooks.on_predict_batch_start(batch, batch_idx, *which)
                recorder.hook = "predict_step"
                prediction = step(batch, batch_idx, *which)
                recorder.hook = None
                hooks.on_predict_batch_end(prediction, batch, batch_idx, *which)
                if return_predictions:
                    kept.append(prediction)
                if state.received_signal is not None:
                    end_preempted(run)
            predictions.append(kept)
        hooks.on_predict_epoch_end()
        hooks.on_predict_end()
    if not return_predictions:
        return None
    return predictions if several else predictions[0]
