"""What a checkpoint holds, who is asked for it and in which order, and when it can be saved."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Order, Trainer
from hookloop.accelerators import CPUAccelerator
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .fitting import Regression, Saves, equal, loader, loss_of, network, samples, sgd, trainer_in
from .installing import Site, installed_for_one_test
from .recording import (
    FirstRecorder,
    LastRecorder,
    MonitorRecorder,
    QuietDataModule,
    RecordingCallback,
    RecordingDataModule,
    RecordingModule,
    Trace,
    lines,
)

OF_EVERY_FILE = {"format", "hookloop_version", "torch_version", "epoch", "global_step", "state_dict"}
OF_A_FULL_FILE = OF_EVERY_FILE | {
    "callback_classes",
    "callback_packages",
    "callback_metrics",
    "logged",
    "random_state",
    "loaders",
    "asked_to_stop",
    "limits",
    "callbacks",
    "lr_scheduler_classes",
    "lr_schedulers",
    "optimizer_classes",
    "optimizer_states",
    "precision",
}
OF_A_FIT = OF_A_FULL_FILE | {"progress"}
OF_TRAINING = OF_A_FIT - {"format", "hookloop_version", "torch_version", "callback_packages"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.ckpt"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


class Tally(Callback):
    """A callback with a state that is given."""

    def __init__(self, key: str, state: Any) -> None:
        self.key = key
        self.state = state

    @property
    def state_key(self) -> str:
        return self.key

    def state_dict(self) -> Any:
        return self.state


def saved(trainer: Trainer, path: Path, **arguments: Any) -> dict[str, Any]:
    trainer.save_checkpoint(path, **arguments)
    return read_checkpoint(path)


def training_in(found: dict[str, Any]) -> dict[str, Any]:
    # The random state is the process's, and an evaluation's loaders draw from it.
    return {key: found[key] for key in sorted(OF_TRAINING - {"random_state", "loaders"})}


def fitted(folder: Path, *callbacks: Callback, module: LightningModule | None = None, **arguments: Any) -> Trainer:
    trainer = trainer_in(folder, *callbacks, **arguments)
    trainer.fit(module or Regression(), loader())
    return trainer


# --------------------------------------------------------------------------------------------------- key by key


def test_a_checkpoint_of_a_fit_has_these_keys_and_no_other(path: Path) -> None:
    assert set(saved(fitted(path.parent), path)) == OF_A_FIT


def test_it_says_how_far_training_is_for_people_to_read(path: Path) -> None:
    found = saved(fitted(path.parent, max_epochs=3), path)
    assert (found["epoch"], found["global_step"]) == (3, 15)
    assert found["format"] == 1


def test_it_names_the_version_that_wrote_it(site: Site, path: Path) -> None:
    site.core("98.7.6")
    assert saved(fitted(path.parent), path)["hookloop_version"] == "98.7.6"


def test_the_weights_are_those_of_a_plain_loop(path: Path) -> None:
    net = network()
    optimizer = sgd(net.parameters())
    for _ in range(2):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    found = saved(fitted(path.parent), path)

    assert list(found["state_dict"]) == ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]
    for name, weight in net.state_dict().items():
        assert torch.equal(found["state_dict"][f"net.{name}"], weight), name
    assert equal(found["optimizer_states"], [optimizer.state_dict()])
    assert found["optimizer_classes"] == ["SGD"]


def test_optimizers_and_schedulers_are_in_the_order_in_which_they_were_returned(path: Path) -> None:
    class Two(Regression):
        def configure_optimizers(self) -> Any:
            optimizers = [torch.optim.SGD(self.net[0].parameters(), lr=0.5), torch.optim.Adam(self.net[2].parameters())]
            return optimizers, [StepLR(optimizers[1], step_size=1, gamma=0.5), StepLR(optimizers[0], step_size=7)]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss_of(self.net, batch).backward()
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

        def on_train_epoch_end(self) -> None:
            self.lr_schedulers()[0].step()

    module = Two()
    module.automatic_optimization = False
    found = saved(fitted(path.parent, module=module), path)

    assert [len(state["state"]) for state in found["optimizer_states"]] == [0, 2]
    assert [state["param_groups"][0]["lr"] for state in found["optimizer_states"]] == [0.5, 0.00025]
    assert [(state["step_size"], state["last_epoch"]) for state in found["lr_schedulers"]] == [(1, 2), (7, 0)]
    assert found["optimizer_classes"] == ["SGD", "Adam"]
    assert found["lr_scheduler_classes"] == ["StepLR", "StepLR"]


def test_every_buffer_that_persists_is_there_and_no_other(path: Path) -> None:
    class Buffers(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.arange(3))
            self.register_buffer("left", torch.arange(4), persistent=False)

    weights = saved(fitted(path.parent, module=Buffers()), path)["state_dict"]
    assert torch.equal(weights["kept"], torch.arange(3))
    assert "left" not in weights


def test_progress_counts_epochs_batches_windows_and_steps(path: Path) -> None:
    # Three batches in windows of two: the optimizer steps at the second and at the third. This is batch 1 of epoch 1.
    saver = Saves("on_train_batch_end", path, n=5)
    trainer_in(path.parent, saver, accumulate_grad_batches=2).fit(Regression(), loader(3), loader(1))
    found = read_checkpoint(path)
    expected = {
        "epoch": 1,
        "batch": 2,
        "global_step": 3,
        "logged_step": 3,
        "total_batches": 5,
        "epoch_started": True,
        "epoch_schedulers_stepped": False,
        "epoch_ended": False,
        "validated_at": -1,
        "window_size": 2,
        "window_filled": 0,
        "batch_counted": True,
        "last_batch": False,
    }
    assert {name: found["progress"][name] for name in expected} == expected
    assert (found["epoch"], found["global_step"]) == (1, 3)


COUNTERS = ("epoch", "batch", "global_step", "logged_step", "total_batches", "window_filled")


def test_inside_a_window_the_gradients_are_there_that_the_next_batch_adds_to(path: Path) -> None:
    # Batch 0 of epoch 1, the first of a window of two: its gradient is that of half its loss.
    module = Regression()
    saver = Saves("on_train_batch_end", path, n=4)
    trainer_in(path.parent, saver, accumulate_grad_batches=2).fit(module, loader(3))
    found = read_checkpoint(path)
    assert [found["progress"][name] for name in COUNTERS] == [1, 1, 2, 2, 4, 1]
    expected = Regression()
    expected.load_state_dict(found["state_dict"])
    (loss_of(expected.net, next(iter(loader(3)))) / 2).backward()
    assert equal(found["gradients"], {name: one.grad for name, one in expected.named_parameters()})


def test_between_windows_gradients_are_done_with(path: Path) -> None:
    trainer_in(path.parent, Saves("on_train_batch_end", path, n=2), accumulate_grad_batches=2).fit(
        Regression(), loader(3)
    )
    assert "gradients" not in read_checkpoint(path)


def test_in_the_middle_of_a_batch_progress_is_that_of_the_window_s_beginning(path: Path) -> None:
    # Which gradients of batch 1 of epoch 1 are there cannot be told, so its window has to be gone through again.
    saver = Saves("on_after_backward", path, n=5)
    trainer_in(path.parent, saver, accumulate_grad_batches=2).fit(Regression(), loader(3))
    found = read_checkpoint(path)
    assert [found["progress"][name] for name in COUNTERS] == [1, 0, 2, 2, 3, 0]
    assert "gradients" not in found


def test_the_latest_values_that_were_logged_are_there(path: Path) -> None:
    class Logs(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("graph", 2 * loss, enable_graph=True)
            self.log("batch", batch_idx)
            return loss

    trainer = trainer_in(path.parent, max_epochs=1)
    trainer.fit(Logs(), loader(3), loader(1))
    found = saved(trainer, path)["callback_metrics"]
    assert set(found) == {"loss", "loss_step", "loss_epoch", "graph", "batch", "val_loss"}
    assert found["batch"] == 2.0
    assert equal(found, {name: value.detach() for name, value in trainer.callback_metrics.items()})
    assert not any(value.requires_grad for value in found.values())


class CountingPrecision(Precision):
    """A precision with something to remember."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.loss_scale = scale

    def state_dict(self) -> dict[str, Any]:
        return {"loss_scale": self.loss_scale}


def test_the_state_of_the_precision_is_there(path: Path) -> None:
    assert saved(fitted(path.parent), path)["precision"] == {}
    strategy = SingleDeviceStrategy(torch.device("cpu"), CPUAccelerator(), precision_plugin=CountingPrecision(1024.0))
    assert saved(fitted(path.parent, strategy=strategy), path)["precision"] == {"loss_scale": 1024.0}


def test_the_state_of_a_datamodule_is_there_if_it_has_one(path: Path) -> None:
    class Stateless(QuietDataModule):
        state_dict = LightningDataModule.state_dict

    for datamodule, keys in (
        (QuietDataModule(Trace()), OF_A_FIT | {"datamodule"}),
        (Stateless(Trace()), OF_A_FIT),
    ):
        trainer = trainer_in(path.parent, max_epochs=1)
        trainer.fit(RecordingModule(Trace()), datamodule=datamodule)
        found = saved(trainer, path)
        assert set(found) == keys
        assert found.get("datamodule", {"seen": 3}) == {"seen": 3}


# ------------------------------------------------------------------------------------------- states of callbacks


def test_callbacks_have_their_states_under_their_keys(path: Path) -> None:
    class Plain(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"n": 1}

    callbacks = [Tally("Tally[a]", {"seen": [1, 2]}), Plain(), Tally("Tally[b]", {"best": torch.tensor(0.5)})]
    found = saved(fitted(path.parent, *callbacks), path)["callbacks"]
    assert list(found) == ["Tally[a]", "test_callbacks_have_their_states_under_their_keys.<locals>.Plain", "Tally[b]"]
    assert equal(list(found.values()), [{"seen": [1, 2]}, {"n": 1}, {"best": torch.tensor(0.5)}])


@pytest.mark.parametrize("state", [{}, None])
def test_a_state_that_is_empty_is_left_out(state: Any, path: Path) -> None:
    found = saved(fitted(path.parent, Tally("empty", state), Tally("full", {"n": 0})), path)
    assert found["callbacks"] == {"full": {"n": 0}}
    assert list(found["callback_classes"]) == ["full"]


def test_a_callback_without_a_state_is_left_out(path: Path) -> None:
    found = saved(fitted(path.parent, Callback(), LambdaCallback(on_train_end=lambda *args: None)), path)
    assert found["callbacks"] == {}
    assert found["callback_classes"] == {}


def test_a_lambda_callback_may_have_a_state(path: Path) -> None:
    found = saved(fitted(path.parent, LambdaCallback(state_dict=lambda: {"n": 4})), path)
    assert found["callbacks"] == {"LambdaCallback": {"n": 4}}


def test_each_state_says_which_class_of_which_distribution_it_is_of(site: Site, path: Path) -> None:
    source = """
        from hookloop import Callback

        class Meter(Callback):
            state_key = "Meter[volts]"

            def state_dict(self):
                return {"volts": 230}
    """
    source = "\n".join(line.removeprefix("        ") for line in source.splitlines())
    site.install("acme-meters", "2.5", classes={"Meter": "acme.meters:Meter"}, modules={"acme.meters": source})
    meter = importlib.import_module("acme.meters").Meter()

    found = saved(fitted(path.parent, meter, Tally("mine", {"n": 1})), path)

    assert found["callback_classes"] == {
        "Meter[volts]": {"class": "Meter", "distribution": "acme-meters", "version": "2.5", "state_version": 1},
        "mine": {"class": "Tally", "distribution": "", "version": "", "state_version": 1},
    }


def test_it_names_the_versions_of_torch_and_of_all_packages_that_callbacks_come_from(site: Site, path: Path) -> None:
    source = "from hookloop import Callback\n\nclass Silent(Callback):\n    pass\n"
    site.install("acme-silence", "3.1", classes={"Silent": "acme.silence:Silent"}, modules={"acme.silence": source})
    silent = importlib.import_module("acme.silence").Silent()

    found = saved(fitted(path.parent, silent, Tally("mine", {"n": 1})), path)

    assert found["callback_packages"] == {"acme-silence": "3.1"}
    assert found["torch_version"] == torch.__version__
    assert type(found["torch_version"]) is str


# ------------------------------------------------------------------------------------------ who is asked, in order


def recorders(trace: Trace) -> list[Callback]:
    """Listed the wrong way round."""
    kinds = {"L": LastRecorder, "O": MonitorRecorder, "C": RecordingCallback, "F": FirstRecorder}
    return [kind(name, trace) for name, kind in kinds.items()]


def test_states_are_asked_for_before_anybody_may_change_the_checkpoint(path: Path) -> None:
    trace = Trace()
    trainer = trainer_in(path.parent, *recorders(trace), max_epochs=1)
    trainer.fit(RecordingModule(trace), datamodule=RecordingDataModule(trace))
    trace.events.clear()
    trainer.save_checkpoint(path)
    assert trace.names == lines("""
        M.state_dict
        F.state_dict C.state_dict O.state_dict L.state_dict
        DM.state_dict
        F.on_save_checkpoint C.on_save_checkpoint M.on_save_checkpoint O.on_save_checkpoint L.on_save_checkpoint
        F.on_checkpoint_saved C.on_checkpoint_saved O.on_checkpoint_saved L.on_checkpoint_saved
    """)


def test_a_file_of_weights_alone_asks_the_module_alone(path: Path) -> None:
    trace = Trace()
    trainer = trainer_in(path.parent, *recorders(trace), max_epochs=1)
    trainer.fit(RecordingModule(trace), datamodule=RecordingDataModule(trace))
    trace.events.clear()
    trainer.save_checkpoint(path, weights_only=True)
    assert trace.names == lines("""
        M.state_dict
        M.on_save_checkpoint
        F.on_checkpoint_saved C.on_checkpoint_saved O.on_checkpoint_saved L.on_checkpoint_saved
    """)


class Adds(Callback):
    """Writes its name, and keeps what it found."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.found = dict(checkpoint)
        checkpoint[f"by {self.name}"] = trainer.global_step
        checkpoint["last word"] = self.name


class AddsLast(Adds):
    order = Order.LAST


class AddingModule(Regression):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["by module"] = self.global_step
        checkpoint["last word"] = "module"


def test_what_on_save_checkpoint_adds_is_in_the_file_and_the_last_one_has_the_last_word(path: Path) -> None:
    early, late = Adds("early"), AddsLast("late")
    found = saved(fitted(path.parent, late, early, module=AddingModule()), path)
    assert set(found) == OF_A_FIT | {"by early", "by module", "by late", "last word"}
    assert (found["by early"], found["by module"], found["by late"]) == (10, 10, 10)
    assert found["last word"] == "late"
    assert set(early.found) == OF_A_FIT
    assert set(late.found) == OF_A_FIT | {"by early", "by module", "last word"}


def test_what_on_save_checkpoint_takes_out_is_not_in_the_file(path: Path) -> None:
    class Forgets(Regression):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            del checkpoint["state_dict"]["net.0.bias"]

    trainer = fitted(path.parent, module=Forgets())
    assert list(saved(trainer, path)["state_dict"]) == ["net.0.weight", "net.2.weight", "net.2.bias"]
    assert trainer.lightning_module is not None
    assert "net.0.bias" in trainer.lightning_module.state_dict()


def test_a_file_of_weights_alone_holds_the_module_alone(path: Path) -> None:
    trainer = fitted(path.parent, Adds("callback"), Tally("tally", {"n": 1}), module=AddingModule())
    found = saved(trainer, path, weights_only=True)
    assert set(found) == OF_EVERY_FILE | {"by module", "last word"}
    assert found["last word"] == "module"
    assert trainer.lightning_module is not None
    assert equal(found["state_dict"], trainer.lightning_module.state_dict())


@pytest.mark.parametrize("weights_only", [False, True])
def test_the_module_cannot_log_while_it_is_saved(weights_only: bool, path: Path) -> None:
    class Logs(Regression):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.log("saved", 1.0)

    saver = Saves("on_train_epoch_end", path, weights_only=weights_only)
    with pytest.raises(MisconfigurationError, match=r"saved.*on_save_checkpoint"):
        fitted(path.parent, saver, module=Logs())


# ------------------------------------------------------------------------------------------------ when it is saved

# With how many epochs and steps, in a fit of one epoch, two batches and a validation. The hooks of a batch: its second.
MOMENTS = {
    "setup": (1, 0, 0),
    "on_fit_start": (1, 0, 0),
    "on_train_start": (1, 0, 0),
    "on_train_epoch_start": (1, 0, 0),
    "on_train_batch_start": (2, 0, 1),
    "on_before_zero_grad": (2, 0, 1),
    "on_before_backward": (2, 0, 1),
    "on_after_backward": (2, 0, 1),
    "on_before_optimizer_step": (2, 0, 1),
    "on_after_optimizer_step": (2, 0, 2),
    "on_train_batch_end": (2, 0, 2),
    "on_validation_start": (1, 0, 2),
    "on_validation_epoch_start": (1, 0, 2),
    "on_validation_batch_start": (1, 0, 2),
    "on_validation_batch_end": (1, 0, 2),
    "on_validation_epoch_end": (1, 0, 2),
    "on_validation_end": (1, 0, 2),
    "on_train_epoch_end": (1, 0, 2),
    "on_train_end": (1, 1, 2),
    "on_fit_end": (1, 1, 2),
    "teardown": (1, 1, 2),
}


@pytest.mark.parametrize("hook", MOMENTS)
def test_every_hook_may_save_and_gets_the_weights_of_that_moment(hook: str, path: Path) -> None:
    net = network()
    optimizer = sgd(net.parameters())
    weights_after = [{name: weight.clone() for name, weight in net.state_dict().items()}]
    for batch in loader(2):
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        optimizer.step()
        weights_after.append({name: weight.clone() for name, weight in net.state_dict().items()})
    n, epoch, steps = MOMENTS[hook]

    trainer_in(path.parent, Saves(hook, path, n), max_epochs=1).fit(Regression(), loader(2), loader(1))

    found = read_checkpoint(path)
    assert set(found) == OF_A_FIT
    assert (found["epoch"], found["global_step"]) == (epoch, steps)
    for name, weight in weights_after[steps].items():
        assert torch.equal(found["state_dict"][f"net.{name}"], weight), name


@pytest.mark.parametrize("hook", ["on_sanity_check_start", "on_validation_end", "on_sanity_check_end"])
def test_the_sanity_check_may_save(hook: str, path: Path) -> None:
    trainer = trainer_in(path.parent, Saves(hook, path), num_sanity_val_steps=1)
    trainer.fit(Regression(), loader(), loader(1))
    found = read_checkpoint(path)
    assert (found["epoch"], found["global_step"]) == (0, 0)
    assert set(found) == OF_A_FIT


def test_an_exception_may_be_the_moment_to_save(path: Path) -> None:
    class Fails(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 3:
                raise ZeroDivisionError("planted")
            return super().training_step(batch, batch_idx)

    with pytest.raises(ZeroDivisionError, match="planted"):
        fitted(path.parent, Saves("on_exception", path), module=Fails())
    found = read_checkpoint(path)
    assert (found["epoch"], found["global_step"]) == (0, 3)
    assert found["progress"]["batch"] == 3


def run_alone(trainer: Trainer, entry: str, module: LightningModule | None) -> None:
    getattr(trainer, entry)(module, loader(1))


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_an_evaluation_without_a_fit_has_no_training_to_save(entry: str, path: Path) -> None:
    trainer = trainer_in(path.parent, Tally("tally", {"n": 1}))
    module = Regression()
    run_alone(trainer, entry, module)
    found = saved(trainer, path)
    assert set(found) == OF_A_FULL_FILE
    assert (found["epoch"], found["global_step"]) == (0, 0)
    assert found["optimizer_states"] == found["lr_schedulers"] == []
    assert found["callbacks"] == {"tally": {"n": 1}}
    assert equal(found["state_dict"], module.state_dict())


@pytest.mark.parametrize(
    ("entry", "hook"),
    [("validate", "on_validation_batch_end"), ("test", "on_test_end"), ("predict", "on_predict_epoch_end")],
)
def test_an_evaluation_may_save_in_its_hooks(entry: str, hook: str, path: Path) -> None:
    module = Regression()
    run_alone(trainer_in(path.parent, Saves(hook, path)), entry, module)
    assert equal(read_checkpoint(path)["state_dict"], module.state_dict())


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_an_evaluation_after_a_fit_leaves_all_that_the_fit_would_save(entry: str, path: Path) -> None:
    trainer = fitted(path.parent)
    after_fit = training_in(saved(trainer, path))
    run_alone(trainer, entry, None)
    assert equal(training_in(saved(trainer, path)), after_fit)


def test_another_module_s_evaluation_does_not_lose_the_fit(path: Path) -> None:
    trainer, module = trainer_in(path.parent), Regression()
    trainer.fit(module, loader())
    after_fit = training_in(saved(trainer, path))
    trainer.validate(Regression(), loader(1), verbose=False)
    trainer.test(module, loader(1), verbose=False)
    assert equal(training_in(saved(trainer, path)), after_fit)


def test_the_file_of_a_module_that_was_not_fitted_holds_no_other_module_s_training(path: Path) -> None:
    trainer = fitted(path.parent)
    other = Regression()
    trainer.validate(other, loader(1), verbose=False)
    found = saved(trainer, path)
    assert set(found) == OF_A_FULL_FILE
    assert found["optimizer_states"] == []
    assert equal(found["state_dict"], other.state_dict())


@pytest.mark.filterwarnings("ignore:.*runs without an optimizer")
def test_a_fit_without_an_optimizer_is_one_to_save_after_its_test_too(path: Path) -> None:
    trainer = fitted(path.parent, module=Regression(lambda parameters: None))
    after_fit = training_in(saved(trainer, path))
    assert after_fit["progress"]["total_batches"] == 10
    trainer.test(None, loader(1), verbose=False)
    assert equal(training_in(saved(trainer, path)), after_fit)


def test_before_any_run_there_is_nothing_to_save(path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"save_checkpoint\(\) needs a module: call fit, validate"):
        trainer_in(path.parent).save_checkpoint(path)
    assert not path.exists()


# ------------------------------------------------------------------------------------------------ a save's effects


class Noisy(Regression):
    """Draws random numbers in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.Dropout(0.5))


def test_saving_changes_nothing_of_a_training(path: Path) -> None:
    class SavesAll(Callback):
        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            trainer.save_checkpoint(path)
            trainer.save_checkpoint(path, weights_only=True)

    weights = []
    for callbacks in ([], [SavesAll()]):
        torch.manual_seed(5)
        module = Noisy()
        shuffled = DataLoader(samples(), batch_size=2, shuffle=True)
        trainer_in(path.parent, *callbacks).fit(module, shuffled)
        assert module.training
        weights.append(module.state_dict())
    assert path.exists()
    assert equal(*weights)


def test_everybody_hears_of_a_file_that_can_be_loaded(path: Path) -> None:
    heard: list[tuple[object, int]] = []

    class Hears(Callback):
        def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
            heard.append((path, read_checkpoint(path)["global_step"]))

    fitted(path.parent, Saves("on_train_epoch_end", path, n=2), Hears())
    assert heard == [(str(path), 10)]


def test_nobody_hears_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    trace = Trace()
    trainer = fitted(tmp_path, RecordingCallback("C", trace))
    trace.events.clear()
    with pytest.raises(CheckpointError, match="could not be written"):
        trainer.save_checkpoint(tmp_path)
    assert trace.of("C") == ["state_dict", "on_save_checkpoint"]


def test_a_file_is_a_picture_of_its_moment(path: Path) -> None:
    trainer = fitted(path.parent, Saves("on_train_epoch_end", path))
    one = fitted(path.parent, max_epochs=1)
    assert one.lightning_module is not None
    assert trainer.lightning_module is not None
    found = read_checkpoint(path)
    assert equal(found["state_dict"], one.lightning_module.state_dict())
    assert not equal(found["state_dict"], trainer.lightning_module.state_dict())
    assert equal(found["optimizer_states"], [one.optimizers[0].state_dict()])
