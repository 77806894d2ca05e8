"""A run that goes on from a checkpoint is the run that was never interrupted."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError, HookloopError
from hookloop.view import TrainerView

from .fitting import (
    BATCHES,
    Configure,
    Regression,
    Rows,
    Saves,
    SavesEarly,
    assert_same_training,
    equal,
    loader,
    samples,
    sgd,
    trainer_in,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt"


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.02, amsgrad=True)


def scheduled(
    make_optimizer: Configure, make_scheduler: Callable[[torch.optim.Optimizer], Any], **settings: Any
) -> Configure:
    """An optimizer with a scheduler, as configure_optimizers returns them."""

    def configure(parameters: Iterable[nn.Parameter]) -> dict[str, Any]:
        optimizer = make_optimizer(parameters)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make_scheduler(optimizer), **settings}}

    return configure


CONFIGURATIONS: dict[str, Configure] = {
    "sgd": sgd,
    "adam": adam,
    "sgd, a step each epoch": scheduled(sgd, lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.5)),
    "adam, a step every second epoch": scheduled(adam, lambda o: StepLR(o, step_size=1, gamma=0.5), frequency=2),
    "adam, a step each optimizer step": scheduled(
        adam, lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=20), interval="step"
    ),
    "sgd, a step every third optimizer step": scheduled(
        sgd, lambda optimizer: ExponentialLR(optimizer, gamma=0.8), interval="step", frequency=3
    ),
    "sgd, on a plateau of each epoch": scheduled(
        sgd, lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, factor=0.5, mode="max"), monitor="val_loss"
    ),
    "adam, on a plateau of the training loss": scheduled(
        adam, lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, factor=0.5, mode="max"), monitor="loss_epoch"
    ),
    "sgd, on a plateau of each step": scheduled(
        sgd,
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=1, factor=0.5, mode="max"),
        monitor="loss",
        interval="step",
    ),
}


# ------------------------------------------------------------------------------------------------ between epochs


@pytest.mark.parametrize("saved", ["in the last hook of the epoch", "after the fit"])
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_run_resumed_between_epochs_equals_the_one_that_was_not_interrupted(
    name: str, window: int, saved: str, path: Path
) -> None:
    def trainer(rows: Rows, *callbacks: Callback, **arguments: Any) -> Trainer:
        settings = {"logger": rows, "log_every_n_steps": 1, "accumulate_grad_batches": window}
        return trainer_in(path.parent, *callbacks, **(settings | arguments))

    straight_rows, first_rows, second_rows = Rows(), Rows(), Rows()
    straight = trainer(straight_rows, max_epochs=4)
    straight.fit(Regression(CONFIGURATIONS[name]), loader(), loader(2))

    callbacks = [Saves("on_train_epoch_end", path, n=2)] if saved == "in the last hook of the epoch" else []
    first = trainer(first_rows, *callbacks, max_epochs=2)
    first.fit(Regression(CONFIGURATIONS[name]), loader(), loader(2))
    if not callbacks:
        first.save_checkpoint(path)
    second = trainer(second_rows, max_epochs=4)
    second.fit(Regression(CONFIGURATIONS[name]), loader(), loader(2), ckpt_path=path)

    assert_same_training(straight, second)
    assert equal(first_rows.rows + second_rows.rows, straight_rows.rows)
    assert len(straight_rows.rows) > 8
    assert equal(second.callback_metrics, straight.callback_metrics)


def test_the_resumed_module_need_not_begin_with_the_same_weights(path: Path) -> None:
    straight = trainer_in(path.parent, Saves("on_train_epoch_end", path))
    straight.fit(Regression(), loader())
    module = Regression()
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(1e6)
    resumed = trainer_in(path.parent)
    resumed.fit(module, loader(), ckpt_path=path)
    assert_same_training(straight, resumed)


def test_a_resumed_run_can_be_resumed(path: Path) -> None:
    straight = trainer_in(path.parent, max_epochs=6)
    straight.fit(Regression(CONFIGURATIONS["sgd, a step each epoch"]), loader())
    last: Trainer | None = None
    for epochs in range(1, 7):
        last = trainer_in(path.parent, Saves("on_train_epoch_end", path), max_epochs=epochs)
        module = Regression(CONFIGURATIONS["sgd, a step each epoch"])
        last.fit(module, loader(), ckpt_path=path if epochs > 1 else None)
        assert len(module.marks) == BATCHES
    assert last is not None
    assert_same_training(straight, last)


def test_the_same_trainer_can_go_back_to_a_checkpoint_of_its_own(path: Path) -> None:
    trainer, module = trainer_in(path.parent, Saves("on_train_epoch_end", path), max_epochs=3), Regression()
    trainer.fit(module, loader())
    weights = {name: weight.clone() for name, weight in module.state_dict().items()}
    module.marks.clear()
    trainer.fit(module, loader(), ckpt_path=path)
    assert len(module.marks) == 2 * BATCHES
    assert (trainer.current_epoch, trainer.global_step) == (3, 15)
    assert equal(dict(module.state_dict()), weights)


def test_a_number_of_steps_counts_those_before_the_checkpoint(path: Path) -> None:
    straight = trainer_in(path.parent, max_epochs=None, max_steps=13)
    straight.fit(Regression(), loader())
    trainer_in(path.parent, Saves("on_train_batch_end", path, n=7), max_steps=7).fit(Regression(), loader())
    resumed = trainer_in(path.parent, max_epochs=None, max_steps=13)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert_same_training(straight, resumed)


# ------------------------------------------------------------------------------------------------ inside an epoch


class Stream(IterableDataset[Any]):
    """The samples, by an object that has no length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([samples()[index] for index in range(2 * BATCHES)])


class Batches:
    """The batches, by an object that is no DataLoader and knows how many they are."""

    def __iter__(self) -> Iterator[Any]:
        return iter(loader())

    def __len__(self) -> int:
        return BATCHES


LOADERS: dict[str, Callable[[], Any]] = {
    "a loader": loader,
    "batches": Batches,
    "a stream": lambda: DataLoader(Stream(), batch_size=2),
}


class SavesAll(Callback):
    """Saves whenever a training step, a validation or an epoch is over, and notes what had been run by then."""

    order = Order.LAST

    def __init__(self, folder: Path, module: Regression) -> None:
        self.folder = folder
        self.module = module
        self.moments: list[tuple[Path, str, list[str]]] = []

    def save(self, trainer: TrainerView, hook: str) -> None:
        path = self.folder / f"{len(self.moments)}.ckpt"
        trainer.save_checkpoint(path)
        self.moments.append((path, hook, list(self.module.marks)))

    def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
        self.save(trainer, "on_train_batch_end")

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.save(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.save(trainer, "on_train_epoch_end")


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"val_check_interval": 2},
        {"val_check_interval": 0.2},
        {"check_val_every_n_epoch": 2},
        {"check_val_every_n_epoch": None, "val_check_interval": 3},
        {"limit_train_batches": 3},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_run_resumed_at_any_moment_repeats_nothing_and_leaves_nothing_out(
    arguments: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    if kind == "a stream" and isinstance(arguments.get("val_check_interval"), float):
        arguments = {"val_check_interval": 1}  # a share of what has no length is an error
    configure = CONFIGURATIONS["sgd, a step every third optimizer step"]
    module = Regression(configure)
    saver = SavesAll(tmp_path, module)
    straight = trainer_in(tmp_path, saver, **arguments)
    straight.fit(module, LOADERS[kind](), loader(2))
    assert len(saver.moments) >= 8

    for path, hook, before in saver.moments:
        resumed_module = Regression(configure)
        resumed = trainer_in(tmp_path, **arguments)
        resumed.fit(resumed_module, LOADERS[kind](), loader(2), ckpt_path=path)
        assert before + resumed_module.marks == module.marks, (hook, before)
        assert_same_training(straight, resumed)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_run_with_windows_resumed_at_any_moment_repeats_nothing_and_leaves_nothing_out(
    interval: int, window: int, tmp_path: Path
) -> None:
    configure = scheduled(
        sgd,
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, factor=0.9, mode="max"),
        monitor="val_loss",
        interval="step",
        strict=False,
    )
    arguments = {"accumulate_grad_batches": window, "val_check_interval": interval}
    module = Regression(configure)
    saver = SavesAll(tmp_path, module)
    straight = trainer_in(tmp_path, saver, **arguments)
    with quiet_about_missing_metrics():
        straight.fit(module, loader(), loader(2))

    for path, hook, before in saver.moments:
        resumed_module = Regression(configure)
        resumed = trainer_in(tmp_path, **arguments)
        with quiet_about_missing_metrics():
            resumed.fit(resumed_module, loader(), loader(2), ckpt_path=path)
        assert_same_training(straight, resumed)
        assert before + resumed_module.marks == module.marks, (hook, before)


def test_a_run_saved_inside_an_epoch_beyond_the_limit_trains_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=2 * BATCHES + 2), max_epochs=3).fit(Regression(), loader())
    module = Regression()
    with warnings.catch_warnings(), suppress(CheckpointError):
        warnings.simplefilter("ignore")
        trainer_in(tmp_path, max_epochs=2).fit(module, loader(), ckpt_path=path)
    assert module.marks == []


def test_an_epoch_that_a_number_of_steps_cut_short_is_ended_after_a_resume_too(tmp_path: Path) -> None:
    ended: list[int] = []

    class Ends(Callback):
        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            ended.append(trainer.global_step)

    path = tmp_path / "model.ckpt"
    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=8), max_steps=8).fit(Regression(), loader())
    module = Regression()
    trainer_in(tmp_path, Ends(), max_steps=8).fit(module, loader(), ckpt_path=path)
    assert module.marks == []
    assert ended == [8]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
@pytest.mark.parametrize(("interval", "monitor"), [("step", "loss"), ("step", "val_loss"), ("epoch", "val_loss")])
def test_a_plateau_scheduler_finds_the_metric_that_was_logged_before_the_checkpoint(
    interval: str, monitor: str, hook: str, path: Path
) -> None:
    # Validated in every second epoch: in between, the scheduler goes by the last value that there is.
    configure = scheduled(
        sgd,
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, factor=0.5),
        monitor=monitor,
        interval=interval,
        strict=False,
    )
    n = 2 * BATCHES if hook == "on_train_batch_end" else 1 if hook == "on_validation_end" else 2
    arguments = {"max_epochs": 4, "check_val_every_n_epoch": 2}
    straight = trainer_in(path.parent, Saves(hook, path, n), **arguments)
    with quiet_about_missing_metrics():
        straight.fit(Regression(configure), loader(), loader(2))
    assert straight.optimizers[0].param_groups[0]["lr"] < 0.05

    resumed = trainer_in(path.parent, **arguments)
    resumed.fit(Regression(configure), loader(), loader(2), ckpt_path=path)
    assert_same_training(straight, resumed)


@contextmanager
def quiet_about_missing_metrics() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was not logged, so it does not step")
        yield


@pytest.mark.parametrize("window", [2, 3])
def test_a_run_resumed_between_windows_equals_the_one_that_was_not_interrupted(window: int, tmp_path: Path) -> None:
    resume_from_each_batch(tmp_path, window, inside=False)


@pytest.mark.parametrize("window", [2, 3])
def test_a_run_resumed_inside_a_window_equals_the_one_that_was_not_interrupted(window: int, tmp_path: Path) -> None:
    resume_from_each_batch(tmp_path, window, inside=True)


def resume_from_each_batch(folder: Path, window: int, inside: bool) -> None:
    """Resume at the end of every batch of two epochs of five that ends no accumulation window, or of every other."""
    # The optimizer steps at the end of each window and of each epoch.
    ends = [
        end for end in range(1, 2 * BATCHES + 1) if (end - 1) % BATCHES % window == window - 1 or end % BATCHES == 0
    ]
    chosen = [n for n in range(1, 2 * BATCHES + 1) if (n not in ends) is inside]
    savers = [Saves("on_train_batch_end", folder / f"{n}.ckpt", n) for n in chosen]
    straight = trainer_in(folder, *savers, accumulate_grad_batches=window)
    straight.fit(Regression(), loader())
    assert straight.global_step == len(ends)
    assert chosen
    for saver in savers:
        resumed = trainer_in(folder, accumulate_grad_batches=window)
        resumed.fit(Regression(), loader(), ckpt_path=saver.path)
        assert_same_training(straight, resumed)


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
    ],
)
def test_a_checkpoint_from_inside_a_step_gives_the_same_run(hook: str, path: Path) -> None:
    straight = trainer_in(path.parent, Saves(hook, path, n=7))
    straight.fit(Regression(), loader())
    resumed = trainer_in(path.parent)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert_same_training(straight, resumed)


IN_A_STEP = [
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_train_batch_end",
]


@pytest.mark.parametrize("hook", IN_A_STEP)
@pytest.mark.parametrize("window", [2, 3])
def test_a_checkpoint_from_inside_a_step_of_a_window_gives_the_same_run(window: int, hook: str, tmp_path: Path) -> None:
    savers = [Saves(hook, tmp_path / f"{n}.ckpt", n) for n in range(1, 2 * BATCHES + 1)]
    straight = trainer_in(tmp_path, *savers, accumulate_grad_batches=window)
    straight.fit(Regression(), loader())
    for saver in savers:
        resumed = trainer_in(tmp_path, accumulate_grad_batches=window)
        resumed.fit(Regression(), loader(), ckpt_path=saver.path)
        assert_same_training(straight, resumed)


@pytest.mark.parametrize("batch_idx", [0, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_checkpoint_that_was_saved_because_of_an_error_gives_the_same_run(
    epoch: int, batch_idx: int, path: Path
) -> None:
    class Fails(Regression):
        def training_step(self, batch: Any, index: int) -> Any:
            if (self.current_epoch, index) == (epoch, batch_idx):
                raise ZeroDivisionError("planted")
            return super().training_step(batch, index)

    straight = trainer_in(path.parent)
    straight.fit(Regression(), loader())
    with pytest.raises(ZeroDivisionError, match="planted"):
        trainer_in(path.parent, Saves("on_exception", path)).fit(Fails(), loader())
    module, resumed = Regression(), trainer_in(path.parent)
    resumed.fit(module, loader(), ckpt_path=path)
    assert len(module.marks) == 2 * BATCHES - (epoch * BATCHES + batch_idx)
    assert_same_training(straight, resumed)


def test_a_callback_in_the_user_s_place_may_save_between_epochs_too(path: Path) -> None:
    configure = CONFIGURATIONS["sgd, a step each epoch"]
    straight = trainer_in(path.parent, SavesEarly("on_train_epoch_end", path))
    straight.fit(Regression(configure), loader(), loader(1))
    resumed = trainer_in(path.parent)
    resumed.fit(Regression(configure), loader(), loader(1), ckpt_path=path)
    assert_same_training(straight, resumed)


def test_the_epoch_is_not_started_again_inside_it(path: Path) -> None:
    started: list[int] = []

    class Starts(Callback):
        def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            started.append(trainer.current_epoch)

    trainer_in(path.parent, Saves("on_train_batch_end", path, n=2)).fit(Regression(), loader())
    trainer_in(path.parent, Starts(), max_epochs=3).fit(Regression(), loader(), ckpt_path=path)
    assert started == [1, 2]


# ------------------------------------------------------------------------------------------- limits of what is resumed


def test_a_run_that_is_over_trains_nothing_and_says_which_limit_to_raise(path: Path) -> None:
    straight = trainer_in(path.parent, Saves("on_train_epoch_end", path, n=2))
    straight.fit(Regression(), loader())
    module, resumed = Regression(), trainer_in(path.parent)
    with pytest.warns(UserWarning, match=r"nothing to train: max_epochs=2 is reached \(epoch 2, step 10\)"):
        resumed.fit(module, loader(), ckpt_path=path)
    assert module.marks == []
    assert_same_training(straight, resumed)


def test_a_checkpoint_beyond_the_limit_is_an_error(path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path, n=3), max_epochs=3).fit(Regression(), loader())
    with pytest.raises(HookloopError, match=r"(?s)max_epochs=1"):
        trainer_in(path.parent, max_epochs=1).fit(Regression(), loader(), ckpt_path=path)


def test_the_sanity_check_is_not_repeated(path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(), loader(), loader(1))
    module = Regression()
    trainer_in(path.parent, num_sanity_val_steps=2).fit(module, loader(), loader(1), ckpt_path=path)
    assert module.marks == ["t0", "t1", "t2", "t3", "t4", "v0"]


# ------------------------------------------------------------------------------------------------ what does not fit


def test_a_file_of_weights_alone_cannot_be_resumed_from(path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path, weights_only=True)).fit(Regression(), loader())
    module = Regression()
    with pytest.raises(CheckpointError, match=r"(?s)no training state.*weights_only=True.*load_state_dict"):
        trainer_in(path.parent).fit(module, loader(), ckpt_path=path)
    assert module.marks == []


def test_a_file_of_an_evaluation_cannot_be_resumed_from(path: Path) -> None:
    trainer = trainer_in(path.parent)
    trainer.validate(Regression(), loader(1), verbose=False)
    trainer.save_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"(?s)no training state.*had not fitted the module"):
        trainer_in(path.parent).fit(Regression(), loader(), ckpt_path=path)


class Manual(Regression):
    """Steps so many optimizers itself."""

    def __init__(self, optimizers: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.number = optimizers

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizers = self.optimizers()
        for optimizer in optimizers if self.number > 1 else [optimizers]:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[2].parameters(), lr=0.1) for _ in range(self.number)]


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2)])
def test_another_number_of_optimizers_is_an_error(before: int, now: int, path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Manual(before), loader())
    message = (
        rf"(?s)holds .*{before} optimizer.*configure_optimizers\(\) returned {now} .*SGD.*Return what the saved run"
    )
    with pytest.raises(CheckpointError, match=message):
        trainer_in(path.parent).fit(Manual(now), loader(), ckpt_path=path)


@pytest.mark.parametrize(
    ("before", "now", "counts"), [("sgd", "sgd, a step each epoch", (0, 1)), ("sgd, a step each epoch", "sgd", (1, 0))]
)
def test_another_number_of_schedulers_is_an_error(before: str, now: str, counts: tuple[int, int], path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(CONFIGURATIONS[before]), loader())
    message = rf"(?s)holds .*{counts[0]} scheduler.*configure_optimizers\(\) returned {counts[1]} "
    with pytest.raises(CheckpointError, match=message) as caught:
        trainer_in(path.parent).fit(Regression(CONFIGURATIONS[now]), loader(), ckpt_path=path)
    assert "StepLR" in str(caught.value)


def of_the_first_layer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(parameters)[:2], lr=0.05)


def in_two_groups(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    weights = list(parameters)
    return torch.optim.SGD([{"params": weights[:2]}, {"params": weights[2:]}], lr=0.05)


@pytest.mark.parametrize("now", [of_the_first_layer, in_two_groups])
def test_an_optimizer_of_other_parameters_is_an_error(now: Configure, path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(), loader())
    with pytest.raises(CheckpointError, match=r"(?s)does not fit the SGD that configure_optimizers\(\) returned"):
        trainer_in(path.parent).fit(Regression(now), loader(), ckpt_path=path)


@pytest.mark.parametrize(("before", "now"), [(sgd, adam), (adam, sgd)])
def test_another_kind_of_optimizer_is_an_error(before: Configure, now: Configure, path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(before), loader())
    with pytest.raises(CheckpointError, match=r"(?s)(SGD.*Adam|Adam.*SGD)"):
        trainer_in(path.parent).fit(Regression(now), loader(), ckpt_path=path)


def test_another_kind_of_scheduler_is_an_error(path: Path) -> None:
    before = CONFIGURATIONS["sgd, a step each epoch"]
    now = scheduled(sgd, lambda optimizer: ExponentialLR(optimizer, gamma=0.9))
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(before), loader())
    with pytest.raises(CheckpointError, match=r"(?s)(StepLR.*ExponentialLR|ExponentialLR.*StepLR)"):
        trainer_in(path.parent).fit(Regression(now), loader(), ckpt_path=path)


class Wider(Regression):
    def __init__(self) -> None:
        super().__init__()
        self.net[0] = nn.Linear(3, 5)
        self.net[2] = nn.Linear(5, 1)


class Deeper(Regression):
    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("kind", "named"), [(Wider, r"net\.0\.weight.*\[4, 3\].*\[5, 3\]"), (Deeper, r"Missing.*more\.weight")]
)
@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_weights_that_do_not_fit_are_an_error_that_names_them(
    entry: str, kind: type[Regression], named: str, path: Path
) -> None:
    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(), loader())
    message = rf"(?s)weights do not fit {kind.__name__}\..*{named}.*Build the module as it was"
    with pytest.raises(CheckpointError, match=message):
        getattr(trainer_in(path.parent), entry)(kind(), loader(1), ckpt_path=path)


def test_an_error_of_the_module_s_own_is_not_taken_for_one_of_its_weights(path: Path) -> None:
    class Refuses(Regression):
        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("not today")

    trainer_in(path.parent, Saves("on_train_epoch_end", path)).fit(Regression(), loader())
    with pytest.raises(RuntimeError, match=r"^not today$") as caught:
        trainer_in(path.parent).fit(Refuses(), loader(), ckpt_path=path)
    assert not isinstance(caught.value, HookloopError)


@pytest.mark.parametrize("progress", [{}, {"epoch": "two"}, None, [1, 2]])
def test_a_damaged_progress_is_an_error(progress: Any, path: Path) -> None:
    trainer = trainer_in(path.parent, Saves("on_train_epoch_end", path))
    trainer.fit(Regression(), loader())
    checkpoint = read_checkpoint(path)
    checkpoint["progress"] = progress
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match="progress"):
        trainer_in(path.parent).fit(Regression(), loader(), ckpt_path=path)


# ------------------------------------------------------------------------------------------------ which file


class Knows(Callback):
    """Answers for some names."""

    family = "checkpoint"

    def __init__(self, **answers: Path | str | None) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def resolve_checkpoint(self, which: str, trainer: TrainerView | None = None) -> Path | str | None:
        self.asked.append(which)
        return self.answers.get(which)


@pytest.fixture
def fitted_path(path: Path) -> Path:
    """A checkpoint of one epoch."""
    trainer_in(path.parent, Saves("on_train_epoch_end", path), max_epochs=1).fit(Regression(), loader())
    return path


def test_a_wrong_path_is_an_error_before_anything_is_set_up(tmp_path: Path) -> None:
    class SetUp(Callback):
        def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
            raise AssertionError

    with pytest.raises(CheckpointError, match=r"no checkpoint .*typo\.ckpt"):
        trainer_in(tmp_path, SetUp()).fit(Regression(), loader(), ckpt_path=tmp_path / "typo.ckpt")


@pytest.fixture(params=["missing", "damaged"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "unreadable.ckpt"
    if request.param == "damaged":
        path.write_bytes(b"half a file")
    return path


def test_a_file_that_cannot_be_read_costs_nothing_of_the_fit_before(unreadable: Path) -> None:
    trainer, module = trainer_in(unreadable.parent), Regression()
    trainer.fit(module, loader())
    with pytest.raises(CheckpointError, match=r"unreadable\.ckpt"):
        trainer.fit(module, loader(), ckpt_path=unreadable)
    assert (trainer.current_epoch, trainer.global_step) == (2, 10)
    trainer.max_epochs = 3
    module.marks.clear()
    trainer.fit(module, loader())
    assert len(module.marks) == BATCHES
    assert (trainer.current_epoch, trainer.global_step) == (3, 15)


def test_a_file_that_cannot_be_read_leaves_what_the_fit_before_would_save(unreadable: Path) -> None:
    trainer, module = trainer_in(unreadable.parent), Regression()
    trainer.fit(module, loader())
    paths = [unreadable.with_name(f"{name}.ckpt") for name in ("before", "after")]
    trainer.save_checkpoint(paths[0])
    with pytest.raises(CheckpointError, match=r"unreadable\.ckpt"):
        trainer.fit(module, loader(), ckpt_path=unreadable)
    trainer.save_checkpoint(paths[1])
    before, after = map(read_checkpoint, paths)
    for key in ("state_dict", "progress", "optimizer_states", "callback_metrics"):
        assert equal(before[key], after[key]), key


def test_another_module_s_file_that_cannot_be_read_does_not_give_it_the_first_one_s_progress(unreadable: Path) -> None:
    straight = trainer_in(unreadable.parent)
    straight.fit(Regression(), loader())
    trainer, other = trainer_in(unreadable.parent), Regression()
    trainer.fit(Regression(), loader())
    with pytest.raises(CheckpointError, match=r"unreadable\.ckpt"):
        trainer.fit(other, loader(), ckpt_path=unreadable)
    trainer.fit(other, loader())
    assert len(other.marks) == 2 * BATCHES
    assert_same_training(straight, trainer)


def test_objects_that_need_code_are_loaded_when_asked_for(fitted_path: Path) -> None:
    checkpoint = read_checkpoint(fitted_path)
    checkpoint["made by"] = torch.nn.Identity()
    torch.save(checkpoint, fitted_path)
    for weights_only in (None, True):
        with pytest.raises(CheckpointError, match=r"weights_only=False"):
            trainer_in(fitted_path.parent).fit(Regression(), loader(), ckpt_path=fitted_path, weights_only=weights_only)
    module = Regression()
    trainer_in(fitted_path.parent).fit(module, loader(), ckpt_path=fitted_path, weights_only=False)
    assert len(module.marks) == BATCHES


# ------------------------------------------------------------------------------------------------ evaluations


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
@pytest.mark.parametrize("weights_only", [False, True])
def test_an_evaluation_takes_the_weights_of_a_checkpoint(entry: str, weights_only: bool, path: Path) -> None:
    trained = Regression()
    trainer_in(path.parent, Saves("on_fit_end", path, weights_only=weights_only)).fit(trained, loader())
    module = Regression()
    trainer = trainer_in(path.parent)
    found = getattr(trainer, entry)(module, loader(2), ckpt_path=path)
    assert equal(module.state_dict(), trained.state_dict())
    assert equal(found, getattr(trainer_in(path.parent), entry)(trained, loader(2)))
    assert (trainer.current_epoch, trainer.global_step, trainer.optimizers) == (0, 0, [])
    assert trainer.ckpt_path == str(path)


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_an_evaluation_without_a_module_takes_the_best_weights_if_somebody_knows_them(entry: str, path: Path) -> None:
    knows = Knows(best=path)
    trainer, module = trainer_in(path.parent, knows, Saves("on_train_epoch_end", path)), Regression()
    trainer.fit(module, loader())
    best, last = read_checkpoint(path)["state_dict"], {k: v.clone() for k, v in module.state_dict().items()}
    assert not equal(dict(best), last)

    getattr(trainer, entry)(module, loader(1))
    assert equal(dict(module.state_dict()), last)
    assert trainer.ckpt_path is None

    getattr(trainer, entry)(None, loader(1))
    assert equal(dict(module.state_dict()), dict(best))
    assert trainer.ckpt_path == str(path)


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_an_evaluation_without_a_module_takes_the_module_as_it_is_if_nobody_knows_better(
    entry: str, tmp_path: Path
) -> None:
    trainer, module = trainer_in(tmp_path, Knows()), Regression()
    trainer.fit(module, loader())
    weights = {name: weight.clone() for name, weight in module.state_dict().items()}
    getattr(trainer, entry)(None, loader(1))
    assert equal(dict(module.state_dict()), weights)


def test_an_evaluation_from_a_checkpoint_does_not_change_where_the_fit_is(path: Path) -> None:
    trainer, module = trainer_in(path.parent, Saves("on_train_epoch_end", path)), Regression()
    trainer.fit(module, loader())
    trainer.test(module, loader(1), ckpt_path=path, verbose=False)
    assert (trainer.current_epoch, trainer.global_step) == (2, 10)


# ------------------------------------------------------------------------------------------------ one fit after another


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_second_fit_of_another_module_starts_anew(tmp_path: Path) -> None:
    straight = trainer_in(tmp_path)
    straight.fit(Regression(CONFIGURATIONS["adam, a step each optimizer step"]), loader())
    trainer = trainer_in(tmp_path)
    first = Regression()
    trainer.fit(first, loader())
    weights = {name: weight.clone() for name, weight in first.state_dict().items()}
    trainer.fit(Regression(CONFIGURATIONS["adam, a step each optimizer step"]), loader())
    assert_same_training(straight, trainer)
    assert equal(dict(first.state_dict()), weights)


def test_a_fit_after_one_that_failed_inside_an_epoch_begins_that_epoch_again(tmp_path: Path) -> None:
    trainer, module = trainer_in(tmp_path), FailsOnce(epoch=1, batch_idx=2)
    with pytest.raises(ZeroDivisionError, match="planted"):
        trainer.fit(module, loader())
    module.marks.clear()
    trainer.fit(module, loader())
    assert module.marks == ["t0", "t1", "t2", "t3", "t4"]
    assert trainer.current_epoch == 2


class FailsOnce(Regression):
    """Its training step raises, the first time that it comes to this batch."""

    def __init__(self, epoch: int, batch_idx: int) -> None:
        super().__init__(lambda parameters: torch.optim.SGD(parameters, lr=0.05))
        self.moment: tuple[int, int] | None = (epoch, batch_idx)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.moment == (self.current_epoch, batch_idx):
            self.moment = None
            raise ZeroDivisionError("planted")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_fit_after_one_that_failed_in_an_epoch_s_first_batch_loses_nothing_of_that_epoch(
    epoch: int, tmp_path: Path
) -> None:
    started: list[int] = []

    class Starts(Callback):
        def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            started.append(trainer.current_epoch)

    straight = trainer_in(tmp_path)
    straight.fit(FailsOnce(epoch=9, batch_idx=0), loader())
    trainer, module = trainer_in(tmp_path, Starts()), FailsOnce(epoch, 0)
    with pytest.raises(ZeroDivisionError, match="planted"):
        trainer.fit(module, loader())
    started.clear()
    trainer.fit(module, loader())
    assert started == list(range(epoch, 2))
    # Plain SGD has no memory, so nothing but that failure can make a difference.
    assert_same_training(straight, trainer)
