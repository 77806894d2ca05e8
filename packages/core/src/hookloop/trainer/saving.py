"""`Trainer.save_checkpoint`: what is saved, where it goes, and who hears of it."""

import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from hookloop.checkpoint import dump
from hookloop.checkpoint_io.saves import failed
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.run import Run

_ON_ERROR = ("raise", "warn")


def check_save(filepath: object, background: object, on_error: object) -> None:
    """Check the arguments of a save.

    Raises:
        MisconfigurationTypeError: filepath is no path, or background is no bool.
        MisconfigurationError: on_error is unknown.
    """
    if not isinstance(filepath, str | os.PathLike):
        raise MisconfigurationTypeError(
            f"save_checkpoint({filepath!r}): the file is a path, and no {type(filepath).__name__}."
        )
    if not isinstance(background, bool):
        raise MisconfigurationTypeError(
            f"save_checkpoint(background={background!r}): it is True or False, and no {type(background).__name__}."
        )
    if on_error not in _ON_ERROR:
        raise MisconfigurationError(
            f'save_checkpoint(on_error={on_error!r}): use "raise", or "warn" to go on without the file.'
        )


def save(
    run: Run, filepath: str | Path, weights_only: bool, storage_options: Any | None, background: bool, on_error: str
) -> None:
    """Write a checkpoint, or begin to.

        a file that is still being written: waited for, announced
        the state of the run
        here: written, announced            # background: copied; written by a thread; announced later

    What went wrong with the former file is raised when this one is written or copied: it must not cost this one too.

    Args:
        run: whose state.
        filepath: where to, as the CheckpointIO understands it.
        weights_only: the module alone.
        storage_options: for the CheckpointIO.
        background: whether to return when the state is copied.
        on_error: "raise", or "warn" if the file cannot be written.
    """
    saves, path = run.saves, os.fspath(filepath)
    former: Exception | None = None
    try:
        saves.wait()
    except Exception as raised:  # noqa: BLE001 - raised below
        former = raised
    try:
        checkpoint = dump(run, weights_only)
        write = partial(run.strategy.save_checkpoint, filepath=filepath, storage_options=storage_options)
        error: Exception | None = None
        writing: Any = None
        try:
            if background and not run.strategy.checkpoint_io.saves_in_background:
                writing = saves.writer.start(write, checkpoint)
            else:
                writing = write(checkpoint)
        except Exception as raised:  # noqa: BLE001 - raised in `failed`, or warned of
            error = raised
        del checkpoint
        run.strategy.barrier("save_checkpoint")
        if error is not None:
            failed(error, path, on_error)
        elif isinstance(writing, Future):
            saves.expect(path, writing, on_error, run.hooks.on_checkpoint_saved)
        else:
            run.hooks.on_checkpoint_saved(path)
    except Exception as raised:
        if former is not None:
            raised.add_note(f"Before that, another checkpoint could not be written: {former}")
        raise
    if former is not None:
        raise former
