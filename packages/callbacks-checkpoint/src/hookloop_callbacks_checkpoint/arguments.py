"""What the arguments of `ModelCheckpoint` may be; those of triggers and file names are checked where they are used."""

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint import files


def check_arguments(monitor: str | None, save_last: object, save_top_k: int, mode: str, on_save_error: str) -> None:
    """Check them before anything is made of them.

    Raises:
        MisconfigurationError: one is not among those that `ModelCheckpoint` describes, or two do not fit.
    """
    _check_top_k(save_top_k, monitor)
    if save_last not in (None, False, True, "link") or (save_last == 1 and not isinstance(save_last, bool)):
        raise MisconfigurationError(
            f"ModelCheckpoint(save_last={save_last!r}): supported are True (also write last.ckpt), "
            '"link" (last.ckpt is a symbolic link to the newest file), False and None.'
        )
    if mode not in ("min", "max"):
        raise MisconfigurationError(
            f'ModelCheckpoint(mode={mode!r}) must be "min" (smaller scores are better) or "max" (larger ones are).'
        )
    if on_save_error not in ("raise", "warn"):
        raise MisconfigurationError(
            f'ModelCheckpoint(on_save_error={on_save_error!r}) must be "raise" (a save that fails ends the run) or '
            '"warn" (training goes on without the file).'
        )


def check_links(save_last: object, folder: str | None) -> None:
    """Check that there can be a link where one is asked for.

    Raises:
        MisconfigurationError: the folder is remote.
    """
    if save_last == "link" and folder is not None and files.is_remote(folder):
        raise MisconfigurationError(
            f'ModelCheckpoint(save_last="link"): there are no links in {folder}. Use save_last=True.'
        )


def _check_top_k(save_top_k: int, monitor: str | None) -> None:
    if isinstance(save_top_k, bool) or not isinstance(save_top_k, int) or save_top_k < -1:
        raise MisconfigurationError(
            f"ModelCheckpoint(save_top_k={save_top_k!r}) must be a whole number: k keeps the k best files, -1 keeps "
            "all, and 0 keeps none, for save_last=True alone."
        )
    if save_top_k > 1 and monitor is None:
        raise MisconfigurationError(
            f"ModelCheckpoint(save_top_k={save_top_k}) keeps the {save_top_k} best files, and without a monitor none "
            'is better than another. Pass monitor="val_loss" or another metric, or save_top_k=-1 to keep all files.'
        )
