"""`trainer.save_checkpoint(path, background=True)`: what is copied, when it is announced, who hears of an error."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Order, Trainer, seed_everything
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, equal, loader, samples, trainer_in
from .gates import Gate, writers, written


class Hears(Callback):
    """Keeps what it is told of files, with the step and the thread, and what each file held then."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.steps: list[int] = []
        self.held: list[int] = []
        self.threads: set[threading.Thread] = set()

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.paths.append(path)
        self.steps.append(trainer.global_step)
        self.held.append(read_checkpoint(path)["global_step"])
        self.threads.add(threading.current_thread())


class At(Callback):
    """Calls functions with the trainer: `At(on_train_batch_end={3: function})`, by how often the hook was called."""

    order = Order.LAST

    def __init__(self, **plans: dict[int, Callable[[TrainerView], object]]) -> None:
        for hook, plan in plans.items():
            setattr(self, hook, self._follow(plan))

    @staticmethod
    def _follow(plan: dict[int, Callable[[TrainerView], object]]) -> Callable[..., None]:
        calls = 0

        def count(trainer: TrainerView, *args: Any) -> None:
            nonlocal calls
            calls += 1
            if calls in plan:
                plan[calls](trainer)

        return count


def saves(path: Path, **arguments: Any) -> Callable[[TrainerView], object]:
    return lambda trainer: trainer.save_checkpoint(path, background=True, **arguments)


def fitted(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    seed_everything(5, verbose=False)
    trainer = trainer_in(folder, *callbacks, **({"max_epochs": 1} | arguments))
    trainer.fit(Regression(), loader())
    return trainer


def test_the_file_is_what_a_save_in_the_foreground_would_have_written_at_that_moment(tmp_path: Path) -> None:
    gate = Gate(is_open=False)

    def both(trainer: TrainerView) -> None:
        trainer.save_checkpoint(tmp_path / "background.ckpt", background=True)
        assert not (tmp_path / "background.ckpt").exists()

    def opened(trainer: TrainerView) -> None:
        gate.opened.set()  # three steps later

    fitted(tmp_path, At(on_train_batch_end={2: both, 5: opened}), plugins=gate)
    fitted(tmp_path, At(on_train_batch_end={2: lambda trainer: trainer.save_checkpoint(tmp_path / "plain.ckpt")}))

    background, plain = read_checkpoint(tmp_path / "background.ckpt"), read_checkpoint(tmp_path / "plain.ckpt")
    assert background["global_step"] == 2
    assert equal(background, plain)


def test_weights_that_change_right_after_a_save_leave_the_file_as_they_were(tmp_path: Path) -> None:
    gate = Gate()
    trainer = fitted(tmp_path, plugins=gate)
    module = trainer.lightning_module
    assert module is not None
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    moments = [state["momentum_buffer"].clone() for state in trainer.optimizers[0].state.values()]

    gate.opened.clear()
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    for state in trainer.optimizers[0].state.values():
        state["momentum_buffer"].zero_()
    gate.opened.set()
    trainer.wait_for_checkpoints()

    found = read_checkpoint(tmp_path / "a.ckpt")
    assert equal(dict(found["state_dict"]), before)
    assert equal([state["momentum_buffer"] for state in found["optimizer_states"][0]["state"].values()], moments)
    assert all(torch.all(weight == 7.0) for weight in module.state_dict().values())


# ---------------------------------------------------------------------------------------------- who hears of a file


def test_a_file_is_announced_after_the_batch_in_which_it_is_done_once_and_by_the_thread_that_trains(
    tmp_path: Path,
) -> None:
    gate, hears = Gate(is_open=False), Hears()

    def lets_it_be_written(trainer: TrainerView) -> None:
        assert hears.paths == []
        gate.opened.set()
        written()

    plan = At(on_train_batch_end={1: saves(tmp_path / "a.ckpt")}, on_train_batch_start={3: lets_it_be_written})
    fitted(tmp_path, plan, hears, plugins=gate)

    assert hears.paths == [str(tmp_path / "a.ckpt")]
    assert (hears.steps, hears.held) == ([3], [1])
    assert hears.threads == {threading.current_thread()}
    assert gate.threads[0] is not threading.current_thread()


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_it_is_announced_after_a_batch_of_evaluation_and_prediction_too(tmp_path: Path, entry_point: str) -> None:
    hook = {"validate": "validation"}.get(entry_point, entry_point)
    batches: list[object] = []
    gate, heard = Gate(), list[tuple[str, int]]()

    class Hearing(Callback):
        def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
            heard.append((path, len(batches)))

    def saved_and_done(trainer: TrainerView) -> None:
        trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
        written()

    plans: list[dict[str, Any]] = [
        {f"on_{hook}_batch_end": plan} for plan in (dict.fromkeys(range(1, 6), batches.append), {2: saved_and_done})
    ]
    trainer = trainer_in(tmp_path, At(**plans[0]), Hearing(), At(**plans[1]), plugins=gate)
    getattr(trainer, entry_point)(Regression(), loader(), **({} if entry_point == "predict" else {"verbose": False}))

    assert heard == [(str(tmp_path / "a.ckpt"), 2)]
    assert len(batches) == BATCHES


def test_at_the_end_of_a_fit_it_is_waited_for(tmp_path: Path) -> None:
    hears = Hears()
    gate = Gate(is_open=False)
    opening = threading.Timer(0.05, gate.opened.set)
    opening.start()
    fitted(tmp_path, At(on_train_end={1: saves(tmp_path / "a.ckpt")}), hears, plugins=gate)
    opening.join()

    assert hears.paths == [str(tmp_path / "a.ckpt")]
    assert hears.held == [BATCHES]


def test_each_of_several_saves_waits_for_the_former_one_and_announces_it_first(tmp_path: Path) -> None:
    gate, hears = Gate(), Hears()
    paths = [tmp_path / f"{step}.ckpt" for step in range(1, 6)]
    plan = At(on_train_batch_end={step: saves(path) for step, path in enumerate(paths, start=1)})
    fitted(tmp_path, plan, hears, plugins=gate)

    assert hears.paths == [str(path) for path in paths]
    assert hears.held == [1, 2, 3, 4, 5]
    assert gate.most == 1
    assert threading.current_thread() not in gate.threads


def test_a_save_in_the_foreground_waits_for_one_in_the_background(tmp_path: Path) -> None:
    gate, hears = Gate(), Hears()

    def saves_twice(trainer: TrainerView) -> None:
        trainer.save_checkpoint(tmp_path / "one.ckpt", background=True)
        trainer.save_checkpoint(tmp_path / "two.ckpt")
        assert hears.paths == [str(tmp_path / "one.ckpt"), str(tmp_path / "two.ckpt")]

    fitted(tmp_path, At(on_train_batch_end={2: saves_twice}), hears, plugins=gate)

    assert gate.most == 1
    assert gate.threads[1] is threading.current_thread()
    assert hears.held == [2, 2]


def test_wait_for_checkpoints_announces_the_file_and_has_nothing_to_do_after_that(tmp_path: Path) -> None:
    hears = Hears()
    trainer = fitted(tmp_path, hears)
    trainer.wait_for_checkpoints()
    assert hears.paths == []

    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    trainer.wait_for_checkpoints()
    trainer.wait_for_checkpoints()

    assert hears.paths == [str(tmp_path / "a.ckpt")]


def test_a_callback_may_save_again_when_it_hears_of_a_file(tmp_path: Path) -> None:
    heard = []

    class SavesAgain(Callback):
        def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
            heard.append(Path(path).name)
            if path.endswith("first.ckpt"):
                trainer.wait_for_checkpoints()  # for nothing: this one is announced
                trainer.save_checkpoint(tmp_path / "second.ckpt", background=True)

    fitted(tmp_path, At(on_train_batch_end={2: saves(tmp_path / "first.ckpt")}), SavesAgain())

    assert heard == ["first.ckpt", "second.ckpt"]


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_error_is_raised_after_the_batch_in_which_the_thread_met_it(tmp_path: Path) -> None:
    gate, hears, module = Gate(is_open=False, fails=("a.ckpt",)), Hears(), Regression()

    def lets_it_fail(trainer: TrainerView) -> None:
        gate.opened.set()
        written()

    plan = At(on_train_batch_end={2: saves(tmp_path / "a.ckpt")}, on_train_batch_start={3: lets_it_fail})
    trainer = trainer_in(tmp_path, plan, hears, plugins=gate)
    with pytest.raises(OSError, match="No space left on device"):
        trainer.fit(module, loader())

    assert module.marks == ["t0", "t1", "t2"]
    assert hears.paths == []
    assert trainer.interrupted


def test_the_error_of_a_file_is_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "a.ckpt"
    with pytest.raises(CheckpointError, match=rf"The checkpoint {target} could not be written\..*\(FileExistsError"):
        fitted(tmp_path, At(on_train_batch_end={2: saves(target)}))


def test_an_error_is_raised_at_the_end_of_a_fit(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    class Hears(Callback):
        def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
            failures.append(exception)

    with pytest.raises(OSError, match="No space") as caught:
        fitted(tmp_path, At(on_train_end={1: saves(tmp_path / "a.ckpt")}), Hears(), plugins=Gate(fails=("a.ckpt",)))
    assert failures == [caught.value]


def test_an_error_is_raised_by_the_next_save_whose_own_file_is_written_all_the_same(tmp_path: Path) -> None:
    hears = Hears()
    trainer = fitted(tmp_path, hears, plugins=Gate(fails=("a.ckpt",)))
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.ckpt'"):
        trainer.save_checkpoint(tmp_path / "b.ckpt")
    trainer.save_checkpoint(tmp_path / "c.ckpt")

    assert hears.paths == [str(tmp_path / "b.ckpt"), str(tmp_path / "c.ckpt")]


def test_two_saves_that_fail_raise_the_second_error_with_the_first_one_as_a_note(tmp_path: Path) -> None:
    trainer = fitted(tmp_path, plugins=Gate(fails=("a.ckpt", "b.ckpt")))
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    with pytest.raises(OSError, match=r"b\.ckpt") as caught:
        trainer.save_checkpoint(tmp_path / "b.ckpt")
    assert caught.value.__notes__ == [
        f"Before that, another checkpoint could not be written: [Errno 28] No space left on device: "
        f"'{tmp_path / 'a.ckpt'}'"
    ]


def test_wait_for_checkpoints_raises_the_error_once(tmp_path: Path) -> None:
    trainer = fitted(tmp_path, plugins=Gate(fails=("a.ckpt",)))
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    with pytest.raises(OSError, match="No space"):
        trainer.wait_for_checkpoints()
    trainer.wait_for_checkpoints()


@pytest.mark.parametrize("background", [True, False])
def test_with_on_error_warn_the_run_goes_on_and_the_warning_names_the_file(tmp_path: Path, background: bool) -> None:
    hears, module = Hears(), Regression()

    def fails(trainer: TrainerView) -> None:
        trainer.save_checkpoint(tmp_path / "a.ckpt", background=background, on_error="warn")

    plan = At(on_train_batch_end={2: fails, 4: saves(tmp_path / "b.ckpt")})
    trainer = trainer_in(tmp_path, plan, hears, max_epochs=1, plugins=Gate(fails=("a.ckpt",)))
    message = rf"The run goes on without the checkpoint {tmp_path / 'a.ckpt'}: OSError: \[Errno 28\] No space left"
    with pytest.warns(UserWarning, match=message) as caught:
        trainer.fit(module, loader())

    assert [str(one.message)[:11] for one in caught] == ["The run goe"]
    assert module.marks == ["t0", "t1", "t2", "t3", "t4"]
    assert hears.paths == [str(tmp_path / "b.ckpt")]


def test_on_error_warn_is_about_the_file_and_not_about_what_was_asked_for(tmp_path: Path) -> None:
    trainer = fitted(tmp_path)
    with pytest.raises(MisconfigurationTypeError, match="storage_options"):
        trainer.save_checkpoint(tmp_path / "a.ckpt", storage_options={"x": 1}, on_error="warn")
    trainer.save_checkpoint(tmp_path / "a.ckpt", storage_options={"x": 1}, background=True, on_error="warn")
    with pytest.raises(MisconfigurationTypeError, match="storage_options"):
        trainer.wait_for_checkpoints()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"on_error": "ignore"}, MisconfigurationError, r'on_error=\'ignore\'\): use "raise", or "warn" to go on'),
        ({"background": "yes"}, MisconfigurationTypeError, r"background='yes'\): it is True or False, and no str"),
    ],
)
def test_arguments_that_nobody_knows_are_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    trainer = fitted(tmp_path)
    with pytest.raises(error, match=rf"^save_checkpoint\({message}"):
        trainer.save_checkpoint(tmp_path / "a.ckpt", **arguments)
    assert not (tmp_path / "a.ckpt").exists()


# ------------------------------------------------------------------------------------------------- runs one by one


def test_what_was_saved_after_a_run_can_be_restored_by_the_next_one_at_once(tmp_path: Path) -> None:
    trainer = fitted(tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    trainer.max_epochs = 2
    trainer.fit(Regression(), loader(), ckpt_path=tmp_path / "a.ckpt")
    assert trainer.global_step == 2 * BATCHES

    trainer.save_checkpoint(tmp_path / "b.ckpt", background=True)
    assert trainer.validate(Regression(), loader(), ckpt_path=tmp_path / "b.ckpt", verbose=False)


def test_two_fits_in_a_row_save_in_the_background(tmp_path: Path) -> None:
    hears = Hears()
    plan = {2: saves(tmp_path / "one.ckpt"), 7: saves(tmp_path / "two.ckpt")}
    trainer = trainer_in(tmp_path, At(on_train_batch_end=plan), hears, max_epochs=1)
    module = Regression()
    trainer.fit(module, loader())
    trainer.max_epochs = 2
    trainer.fit(module, loader())

    assert [Path(path).name for path in hears.paths] == ["one.ckpt", "two.ckpt"]
    assert hears.held == [2, 7]


def test_several_trainers_write_at_the_same_time(tmp_path: Path) -> None:
    gate = Gate(is_open=False)
    trainers = [fitted(tmp_path, hears := Hears(), plugins=gate) for _ in range(2)]
    for index, trainer in enumerate(trainers):
        trainer.save_checkpoint(tmp_path / f"{index}.ckpt", background=True)
    assert len(writers()) == 2
    gate.opened.set()
    for trainer in trainers:
        trainer.wait_for_checkpoints()

    assert hears.paths == [str(tmp_path / "1.ckpt")]
    assert equal(read_checkpoint(tmp_path / "0.ckpt"), read_checkpoint(tmp_path / "1.ckpt"))


def test_batches_that_are_loaded_by_workers_forked_during_a_save_are_the_same(tmp_path: Path) -> None:
    def run(name: str, *callbacks: Callback, **arguments: Any) -> dict[str, Any]:
        trainer = trainer_in(tmp_path, *callbacks, **arguments)
        module = Regression()
        torch.manual_seed(3)
        workers: DataLoader[Any] = DataLoader(samples(), 2, shuffle=True, num_workers=2)
        trainer.fit(module, workers)  # each epoch forks its workers anew
        return {"marks": module.marks, **module.state_dict()}

    gate, hears = Gate(is_open=False), Hears()
    plan = At(
        on_train_epoch_end={1: saves(tmp_path / "a.ckpt")},
        on_train_batch_end={BATCHES + 2: lambda trainer: gate.opened.set()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        forked_meanwhile = run("background", plan, hears, plugins=gate)

    assert equal(forked_meanwhile, run("plain"))
    assert hears.held == [BATCHES]
