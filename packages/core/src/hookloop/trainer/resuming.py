"""The argument `ckpt_path`: from a path, "best", "last" or "auto" to the checkpoint that a run begins with."""

import heapq
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from hookloop.callback import Callback
from hookloop.checkpoint_io import CheckpointIO
from hookloop.errors import (
    CheckpointError,
    DamagedCheckpointError,
    MisconfigurationError,
    MisconfigurationTypeError,
)
from hookloop.rank_zero import rank_zero_info
from hookloop.stage import TrainerFn
from hookloop.storage import modified
from hookloop.strategies import Strategy
from hookloop.view import TrainerView

BEST, LAST, AUTO = "best", "last", "auto"


def find_checkpoint(
    trainer: TrainerView,
    ckpt_path: str | os.PathLike[str] | None,
    fn: TrainerFn,
    callbacks: Sequence[Callback],
    strategy: Strategy,
    weights_only: bool,
    fast_dev_run: bool,
) -> tuple[str | None, list[dict[str, Any]]]:
    """Find and read what an entry point's `ckpt_path` stands for, before anything is given up for it.

    A path is taken as it is, and so is the answer of the first callback that knows a "best" one. For "last" and "auto"
    every callback is asked; what they name is tried from the newest file on, and one that cannot be used is named in a
    warning and passed over. Rank zero alone asks, looks and chooses; the others take its answer. Files after the one
    that is chosen are not opened.

    Args:
        trainer: handed to the callbacks.
        ckpt_path: what the user passed.
        fn: the entry point; a fit needs a file with training state, and only a fit may be "auto".
        callbacks: those of the run.
        strategy: reads files, and knows the other ranks.
        weights_only: refuse everything but tensors, numbers, strings and containers of them.
        fast_dev_run: nothing is saved in this run, and "auto" begins anew.

    Returns:
        The path, and what it holds, alone in a list: so that whoever restores it can drop it. None and an empty list
        where there is none.

    Raises:
        MisconfigurationError: `ckpt_path` is nothing of this kind, or no callback can say what it stands for.
        CheckpointError: what is there cannot be used.
    """
    if ckpt_path is None:
        return None, []
    if not isinstance(ckpt_path, str | os.PathLike):
        raise MisconfigurationTypeError(
            f"ckpt_path={ckpt_path!r} ({type(ckpt_path).__name__}) must be a path, "
            '"best", "last", in a fit also "auto", or None for no checkpoint.'
        )
    if ckpt_path not in (BEST, LAST, AUTO):  # a pathlib.Path never is: Path("best") is a file of that name
        path = os.fspath(ckpt_path)
        strategy.checkpoint_io.check_is_there(path)
        checkpoint = strategy.load_checkpoint(path, weights_only)
        _tell(path, checkpoint, fn)
        return path, [checkpoint]
    which = str(ckpt_path)
    if which == AUTO:
        if fn is not TrainerFn.FITTING:
            raise MisconfigurationError(
                f'trainer.{fn.value}(ckpt_path="auto"): "auto" goes on with training, or begins it where there is no '
                f'checkpoint, so it is for fit alone. Pass "last" for the newest intact checkpoint, "best", or a path.'
            )
        if fast_dev_run:
            rank_zero_info('ckpt_path="auto": a fast_dev_run neither saves nor resumes, so training starts anew.')
            return None, []
    return _chosen_by_rank_zero(trainer, which, fn, callbacks, strategy, weights_only, fast_dev_run)


def with_chosen_weights(
    fn: TrainerFn, path: str | None, checkpoints: list[dict[str, Any]], weights: str
) -> list[dict[str, Any]]:
    """The checkpoint that a run begins with, with the weights that were asked for as its `state_dict`.

    Args:
        fn: the entry point.
        path: the file.
        checkpoints: what it holds, alone in a list.
        weights: the argument of the entry point.

    Raises:
        MisconfigurationTypeError: that is no name.
        MisconfigurationError: there is no checkpoint.
        CheckpointError: it has no weights of that name.
    """
    from hookloop.checkpoint_file.weight_sets import check_name, with_weights  # not by every resume

    call = f"trainer.{fn.value}"
    check_name(weights, call)
    if not checkpoints:
        raise MisconfigurationError(
            f"{call}(weights={weights!r}) chooses among the weights of a checkpoint, and this run begins with none. "
            "Pass ckpt_path too, or leave weights out."
        )
    return [with_weights(checkpoint, weights, path) for checkpoint in checkpoints]


def best_checkpoint(
    trainer: TrainerView, callbacks: Sequence[Callback], strategy: Strategy, *, weights_only: bool
) -> tuple[str | None, list[dict[str, Any]]]:
    """The best checkpoint that a callback knows, as `find_checkpoint` returns it; nothing if none knows one."""
    path = _first(_answers(BEST, callbacks, trainer)) if strategy.is_global_zero else None
    path = strategy.broadcast(path)
    return (None, []) if path is None else (path, [strategy.load_checkpoint(path, weights_only)])


def _chosen_by_rank_zero(
    trainer: TrainerView,
    which: str,
    fn: TrainerFn,
    callbacks: Sequence[Callback],
    strategy: Strategy,
    weights_only: bool,
    fast_dev_run: bool,
) -> tuple[str | None, list[dict[str, Any]]]:
    if not strategy.is_global_zero:
        path, refusal = strategy.broadcast(None)
        if refusal:
            raise CheckpointError(f"Rank zero found no checkpoint to begin with: {refusal}")
        return path, [] if path is None else [strategy.load_checkpoint(path, weights_only)]
    try:
        found = _choose(trainer, which, fn, callbacks, strategy, weights_only, fast_dev_run)
    except Exception as error:
        strategy.broadcast((None, str(error)))  # the others wait for an answer
        raise
    if found is None:
        strategy.broadcast((None, ""))
        rank_zero_info('ckpt_path="auto": there is no intact checkpoint of this run yet, so training starts anew.')
        return None, []
    strategy.broadcast((found[0], ""))
    _tell(*found, fn)
    return found[0], [found[1]]


def _choose(
    trainer: TrainerView,
    which: str,
    fn: TrainerFn,
    callbacks: Sequence[Callback],
    strategy: Strategy,
    weights_only: bool,
    fast_dev_run: bool,
) -> tuple[str, dict[str, Any]] | None:
    """The path and its contents; None where "auto" begins anew."""
    answers = _answers(which, callbacks, trainer)
    if which == BEST and (path := _first(answers)) is not None:
        strategy.checkpoint_io.check_is_there(path)
        return path, strategy.load_checkpoint(path, weights_only)
    candidates = list(dict.fromkeys(_newest_first(answers)))
    if not candidates and not (answers and which == AUTO):
        raise MisconfigurationError(_nobody_knows(which, fn, callbacks, fast_dev_run))
    unusable: list[tuple[str, Exception]] = []
    for path in candidates:
        try:
            checkpoint = strategy.load_checkpoint(path, weights_only)
            if fn is TrainerFn.FITTING:
                _check_holds_training(path, checkpoint)
            return path, checkpoint
        except Exception as error:  # noqa: BLE001  (a CheckpointIO of the user's may raise anything for a bad file)
            cause = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            warnings.warn(f'ckpt_path="{which}" passes over {path}: {cause}', stacklevel=2)
            unusable.append((path, error))
    if which == AUTO and all(_is_lost(path, error, strategy.checkpoint_io) for path, error in unusable):
        return None
    raise _none_can_be_used(which, [path for path, _ in unusable]) from unusable[-1][1]


def _answers(which: str, callbacks: Sequence[Callback], trainer: TrainerView) -> list[list[str]]:
    """The paths that each callback names, of those that can tell.

    Raises:
        MisconfigurationTypeError: an answer is something else.
    """
    answers = []
    for callback in callbacks:
        answer = callback.resolve_checkpoint(which, trainer)
        if answer is None:
            continue
        paths = [answer] if isinstance(answer, str | os.PathLike) else answer
        if not isinstance(paths, Sequence) or not all(isinstance(path, str | os.PathLike) for path in paths):
            raise MisconfigurationTypeError(
                f"{type(callback).__name__}.resolve_checkpoint({which!r}) returned {answer!r}: a path is needed, a "
                "sequence of paths (the newest first), or None if it cannot tell."
            )
        answers.append([os.fspath(path) for path in paths if os.fspath(path)])
    return answers


def _first(answers: list[list[str]]) -> str | None:
    return next((paths[0] for paths in answers if paths), None)


def _newest_first(answers: list[list[str]]) -> Iterator[str]:
    """All paths; each callback's in the order that it gave them, the newer of two callbacks' files first."""
    if len(answers) == 1:
        yield from answers[0]
    else:
        yield from heapq.merge(*answers, key=lambda path: -_modified(path))


def _modified(path: str) -> float:
    """When a file was written; that of one which cannot be asked counts as new: trying it tells what is wrong."""
    try:
        return modified(path)
    except (CheckpointError, OSError):
        return math.inf


def _check_holds_training(path: str, checkpoint: dict[str, Any]) -> None:
    if "progress" not in checkpoint and "pytorch-lightning_version" not in checkpoint:
        raise CheckpointError(
            f"The checkpoint {path} holds no training state: it was saved with weights_only=True, or by a trainer that "
            "had not fitted the module."
        )


def _is_lost(path: str, error: Exception, checkpoint_io: CheckpointIO) -> bool:
    """Whether nothing of a checkpoint can be saved any more; else it is not for us to begin anew in its place."""
    if isinstance(error, DamagedCheckpointError):
        return True
    try:
        checkpoint_io.check_is_there(path)
    except CheckpointError as missing:
        return not isinstance(missing.__cause__, OSError)  # else it could not even be looked for
    return False


def _none_can_be_used(which: str, paths: Sequence[str]) -> CheckpointError:
    advice = "Choose another checkpoint by its path."
    if which == AUTO:
        advice = (
            "Training does not start anew, as not all of them are lost: mend what the warnings name, or pass "
            "ckpt_path=None to start anew."
        )
    return CheckpointError(
        f'ckpt_path="{which}": none of the checkpoints of this run can be used ({", ".join(paths)}); the warnings '
        f"say why. {advice}"
    )


def _nobody_knows(which: str, fn: TrainerFn, callbacks: Sequence[Callback], fast_dev_run: bool) -> str:
    asked = [type(callback).__name__ for callback in callbacks if callback.family == "checkpoint"]
    advice = "train with a checkpoint callback first (pip install hookloop-callbacks-checkpoint)"
    if which == AUTO:
        advice = "add a checkpoint callback (pip install hookloop-callbacks-checkpoint)"
    if fast_dev_run:
        advice = "leave out fast_dev_run, which keeps no checkpoints"
    elif asked:
        advice = "give the callback a folder that stays the same from run to run (dirpath=...)"
    anew = (
        '"auto" to begin anew as long as there is none, '
        if which == LAST and fn is TrainerFn.FITTING and not fast_dev_run
        else ""
    )
    knows = "no callback knows of such a checkpoint"
    if which == AUTO:
        knows = "no callback can tell where the checkpoints of this run are, so each restart would start anew"
    return (
        f'ckpt_path="{which}": {knows} (checkpoint callbacks: {", ".join(asked) or "there is none"}). '
        f"Pass a path, {anew}or {advice}."
    )


def _tell(path: str, checkpoint: dict[str, Any], fn: TrainerFn) -> None:
    does = "Resuming from" if fn is TrainerFn.FITTING else "Taking the weights of"
    rank_zero_info(f"{does} {path} (epoch {checkpoint.get('epoch')}, step {checkpoint.get('global_step')}).")
