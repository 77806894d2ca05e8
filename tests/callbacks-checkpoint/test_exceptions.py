"""A run ends by an exception: what is saved then, and when it is better that nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import Callback, LambdaCallback, Trainer
from hookloop.errors import MisconfigurationError, SIGTERMException
from hookloop_callbacks_checkpoint import ModelCheckpoint, OnExceptionCheckpoint, factory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Runs

ERRORS = [RuntimeError("planted"), KeyboardInterrupt()]


def raises(hook: str, at: int, error: BaseException) -> LambdaCallback:
    """Raises when a hook is called for the n-th time."""
    calls: list[str] = []

    def count(*args: Any) -> None:
        calls.append(hook)
        if len(calls) == at:
            raise error

    return LambdaCallback(**{hook: count})


def saving(kind: str, runs: Runs) -> Callback:
    if kind == "model":
        return ModelCheckpoint(runs.checkpoints, monitor="score", save_on_exception=True)
    return OnExceptionCheckpoint(runs.checkpoints, filename="last")


KINDS = pytest.mark.parametrize("kind", ["model", "exception"])


@KINDS
@pytest.mark.parametrize("error", ERRORS, ids=["error", "ctrl-c"])
@pytest.mark.parametrize(
    ("hook", "at", "steps"),
    [
        ("on_train_batch_start", 1, 0),
        ("on_train_batch_start", 3, 2),
        ("on_before_backward", 2, 1),
        ("on_after_backward", 4, 3),
        ("on_train_batch_end", 1, 1),
        ("on_train_batch_end", 3, 3),
        ("on_validation_start", 1, 2),
        ("on_train_epoch_end", 1, 2),
        ("on_train_epoch_start", 2, 2),
    ],
)
def test_training_goes_on_from_where_it_was(
    runs: Runs, kind: str, hook: str, at: int, steps: int, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        runs.fit(saving(kind, runs), raises(hook, at, error), scores=[2.0, 1.0])

    assert runs.steps_in(runs.checkpoints / "last.ckpt") == steps
    validated = steps >= 2 and hook != "on_validation_start"
    trainer = runs.fit(saving(kind, runs), scores=[2.0, 1.0], before=int(validated), ckpt_path="last")
    assert trainer.global_step == 4
    assert runs.steps_in(trainer.ckpt_path or "") == steps


@KINDS
@pytest.mark.parametrize("hook", ["on_before_optimizer_step", "on_after_optimizer_step"])
def test_nothing_is_saved_in_the_middle_of_an_optimizer_s_step(
    runs: Runs, kind: str, hook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Callbacks of Order LAST come after this one: it is the step itself that is not over.
    late = type("Late", (LambdaCallback,), {"order": ModelCheckpoint.order})
    source = raises(hook, 2, RuntimeError("planted"))
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(saving(kind, runs), late(**{hook: vars(source)[hook]}), scores=[2.0, 1.0])

    assert runs.files == []
    assert "for this RuntimeError: the optimizer was stepping, and its weights may be" in capsys.readouterr().out


@KINDS
def test_accumulated_batches_are_repeated_from_their_window_s_beginning(runs: Runs, kind: str) -> None:
    stop = raises("on_after_backward", 4, RuntimeError("planted"))
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(saving(kind, runs), stop, scores=[2.0], batches=4, accumulate_grad_batches=2)

    trainer = runs.fit(
        saving(kind, runs), scores=[2.0], batches=4, accumulate_grad_batches=2, ckpt_path=runs.checkpoints / "last.ckpt"
    )

    assert trainer.global_step == 2
    assert trainer.lightning_module is not None
    assert torch.equal(trainer.lightning_module.get_parameter("steps"), torch.tensor([2.0]))


@KINDS
@pytest.mark.parametrize("hook", ["on_fit_start", "on_sanity_check_end", "on_fit_end"])
def test_before_and_after_training_there_is_nothing_to_save(runs: Runs, kind: str, hook: str) -> None:
    first = raises(hook, 1, RuntimeError("planted"))
    callback = saving(kind, runs)
    if isinstance(callback, ModelCheckpoint):
        callback = ModelCheckpoint(runs.checkpoints, save_on_exception=True, every_n_epochs=0)
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(callback, first, scores=[2.0], num_sanity_val_steps=1)

    assert runs.files == []


@pytest.mark.parametrize("error", ERRORS, ids=["error", "ctrl-c"])
def test_an_exception_in_a_save_is_not_followed_by_another_save(
    runs: Runs, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[int] = []

    def fail(trainer: Any, *args: Any) -> None:
        attempts.append(trainer.global_step)
        if len(attempts) == 2:
            raise error

    checkpoint = ModelCheckpoint(monitor="score", save_on_exception=True, save_last=True)
    with pytest.raises(type(error)) as caught:
        runs.fit(checkpoint, LambdaCallback(on_save_checkpoint=fail), scores=[2.0, 1.0])

    assert attempts == [2, 4]
    assert not hasattr(caught.value, "__notes__")
    assert f"it came from a save; the newest is {runs.checkpoints / 'last.ckpt'}" in capsys.readouterr().out
    assert runs.files == ["epoch=0-step=2.ckpt", "last.ckpt"]


def test_a_save_for_an_exception_that_fails_leaves_the_exception_the_first(runs: Runs) -> None:
    def fail(*args: Any) -> None:
        raise OSError("no room")

    stop = raises("on_train_batch_start", 2, RuntimeError("planted"))
    with pytest.raises(RuntimeError, match="planted") as caught:
        runs.fit(ModelCheckpoint(save_on_exception=True), LambdaCallback(on_save_checkpoint=fail), stop, scores=[2.0])

    assert caught.value.__notes__ == ["ModelCheckpoint.on_exception raised after that: OSError: no room"]


def test_it_is_saved_in_full_where_weights_alone_are_saved_otherwise(runs: Runs) -> None:
    stop = raises("on_train_batch_start", 2, RuntimeError("planted"))
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(ModelCheckpoint(save_on_exception=True, save_weights_only=True), stop, scores=[2.0])

    assert "optimizer_states" in torch.load(runs.checkpoints / "last.ckpt", weights_only=True)


def test_nothing_is_saved_for_an_exception_unless_it_is_asked_for(runs: Runs) -> None:
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(ModelCheckpoint(), raises("on_train_batch_start", 2, RuntimeError("planted")), scores=[2.0])

    assert runs.files == []


# OnExceptionCheckpoint


def test_the_file_of_an_exception_survives_whatever_comes_after_it(
    runs: Runs, batches: Callable[[int], DataLoader[Any]]
) -> None:
    callback = OnExceptionCheckpoint(runs.checkpoints)
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(callback, raises("on_train_batch_start", 2, RuntimeError("planted")), scores=[2.0])
    before = Path(callback.ckpt_path).read_bytes()

    trainer = runs.fit(callback, scores=[2.0, 1.0], max_epochs=1)
    trainer.validate(dataloaders=batches(1), verbose=False)
    trainer.test(dataloaders=batches(1), verbose=False)

    assert runs.files == ["on_exception.ckpt"]
    assert Path(callback.ckpt_path).read_bytes() == before


def test_a_later_exception_of_the_run_replaces_the_file_and_one_of_another_run_does_not(runs: Runs) -> None:
    for at, ckpt_path in ((2, None), (3, runs.checkpoints / "on_exception.ckpt")):
        with pytest.raises(RuntimeError, match="planted"):
            runs.fit(
                OnExceptionCheckpoint(runs.checkpoints),
                raises("on_after_backward", at - (0 if ckpt_path is None else 1), RuntimeError("planted")),
                scores=[2.0, 1.0],
                before=0,
                ckpt_path=ckpt_path,
            )
    assert runs.files == ["on_exception.ckpt"]
    assert runs.steps_in(runs.checkpoints / "on_exception.ckpt") == 2

    other = OnExceptionCheckpoint(runs.checkpoints)
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(other, raises("on_after_backward", 2, RuntimeError("planted")), scores=[2.0])

    assert runs.files == ["on_exception-v1.ckpt", "on_exception.ckpt"]
    assert other.ckpt_path == str(runs.checkpoints / "on_exception-v1.ckpt")


def test_nothing_is_resumed_that_was_not_asked_for(runs: Runs) -> None:
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(
            OnExceptionCheckpoint(runs.checkpoints),
            raises("on_train_batch_start", 2, RuntimeError("planted")),
            scores=[2.0],
        )

    assert runs.fit(OnExceptionCheckpoint(runs.checkpoints), scores=[2.0]).ckpt_path is None


def test_it_takes_the_place_of_no_other_callback(tmp_path: Path) -> None:
    assert OnExceptionCheckpoint.family is None
    trainer = Trainer(
        callbacks=[OnExceptionCheckpoint(tmp_path), ModelCheckpoint()], registered_callbacks=False, logger=False
    )
    assert isinstance(trainer.checkpoint_callback, ModelCheckpoint)
    assert len(trainer.checkpoint_callbacks) == 1
    assert factory.__module__ == "hookloop_callbacks_checkpoint.factory"


def test_a_sigterm_is_saved_once(runs: Runs) -> None:
    import signal

    stop = LambdaCallback(on_train_batch_start=lambda *args: signal.raise_signal(signal.SIGTERM))
    saved: list[str] = []
    listener = LambdaCallback(on_checkpoint_saved=lambda trainer, module, path: saved.append(Path(path).name))
    with pytest.raises(SIGTERMException):
        runs.fit(OnExceptionCheckpoint(runs.checkpoints, "{epoch}-{step}"), stop, listener, scores=[2.0])

    assert saved == ["epoch=0-step=1.ckpt"]


def test_auto_is_one_program_for_all_starts_of_a_job_that_saves_when_it_is_asked_to_end(runs: Runs) -> None:
    import signal

    def start(*callbacks: Callback) -> Trainer:
        return runs.fit(OnExceptionCheckpoint(runs.checkpoints), *callbacks, scores=[2.0, 1.0], ckpt_path="auto")

    def stop(trainer: Any, *args: Any) -> None:
        if trainer.global_step == 1:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SIGTERMException):
        start(LambdaCallback(on_train_batch_end=stop))  # there is no file yet, so it begins anew
    again = start()
    assert again.ckpt_path == str(runs.checkpoints / "on_exception.ckpt")
    assert runs.steps_in(again.ckpt_path) == 1
    assert again.global_step == 4


def test_auto_does_not_begin_anew_where_a_name_with_the_step_in_it_may_be_there(runs: Runs) -> None:
    with pytest.raises(MisconfigurationError, match='ckpt_path="auto": no callback can tell where'):
        runs.fit(OnExceptionCheckpoint(runs.checkpoints, "{step}"), scores=[2.0], ckpt_path="auto")


def test_last_is_refused_before_the_first_exception(runs: Runs) -> None:
    with pytest.raises(MisconfigurationError, match='ckpt_path="last": no callback knows of such a checkpoint'):
        runs.fit(OnExceptionCheckpoint(runs.checkpoints), scores=[2.0], ckpt_path="last")


@pytest.mark.parametrize("kind", ["model", "exception"])
def test_a_trial_run_leaves_no_file(runs: Runs, kind: str) -> None:
    with pytest.raises(RuntimeError, match="planted"):
        runs.fit(
            saving(kind, runs),
            raises("on_train_batch_start", 1, RuntimeError("planted")),
            scores=[2.0],
            fast_dev_run=True,
        )

    assert runs.files == []


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        ("", r"filename=''\): a name is needed; leave it out for on_exception\.ckpt"),
        ("{val_loss}", "names 'val_loss', which need not be there when an exception comes"),
        ("../x", "leads out of the folder"),
    ],
)
def test_a_name_that_cannot_work_is_an_error(tmp_path: Path, filename: str, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        OnExceptionCheckpoint(tmp_path, filename)
