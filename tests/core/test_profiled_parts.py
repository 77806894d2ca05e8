"""The parts of the loops as a profiler sees them: how often each runs, what is inside of what, and what it takes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.loggers import CSVLogger
from hookloop.profilers import ActionTime, PassThroughProfiler, Profiler, SimpleProfiler
from hookloop.view import TrainerView

ON_THE_CPU = "[Strategy]SingleDeviceStrategy"
TRAINING_LOOP = "[_TrainingEpochLoop].train_dataloader"


class Tree(Profiler):
    """Writes down each action with the actions that it is inside of, outermost first."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.paths: list[tuple[str, ...]] = []

    def start(self, action_name: str) -> None:
        self.open.append(action_name)
        self.paths.append(tuple(self.open))

    def stop(self, action_name: str) -> None:
        assert self.open.pop() == action_name

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(path[-1] for path in self.paths))

    def inside(self, action_name: str) -> set[str]:
        """What starts directly inside of an action."""
        return {path[-1] for path in self.paths if path[-2:-1] == (action_name,)}


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean())

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test_loss", self.layer(batch[0]).square().mean())

    def predict_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        prediction: Tensor = self.layer(batch[0])
        return prediction

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class SavesEachEpoch(Callback):
    order = Order.LAST

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt")


def loader(batches: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.ones(2 * batches, 2)), batch_size=2)


def make_trainer(profiler: Profiler | str | None, folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    arguments = {"logger": False, "max_epochs": 2, **arguments}
    return Trainer(
        profiler=profiler, default_root_dir=folder, registered_callbacks=False, callbacks=list(callbacks), **arguments
    )


# How often. Two epochs of three batches; each validates two batches, and so does the sanity check before them.

OF_A_FIT = {
    "trainer.fit": 1,
    "setup": 1,
    "prepare_data": 1,
    f"{ON_THE_CPU}.place": 1,
    "[LightningModule]Line.configure_optimizers": 1,
    "run_sanity_check": 1,
    "run_training_epoch": 2,
    f"{TRAINING_LOOP}_iter": 2,
    f"{TRAINING_LOOP}_next": 6,
    "run_training_batch": 6,
    f"{ON_THE_CPU}.training_step": 6,
    "optimizer_zero_grad": 6,
    f"{ON_THE_CPU}.backward": 6,
    "[LightningModule]Line.configure_gradient_clipping": 6,
    "optimizer_step": 6,
    "[LightningModule]Line.lr_scheduler_step": 2,
    "run_validation": 2,
    "[_EvaluationLoop].val_iter": 3,
    "[_EvaluationLoop].val_next": 6,
    f"{ON_THE_CPU}.validation_step": 6,
    "log_metrics": 6 + 2,  # a row for each step, and one for each validation
    "[Callback]SavesEachEpoch.on_train_epoch_end": 2,
    "save_checkpoint": 2,
}


def fit(profiler: Profiler, folder: Path, **arguments: Any) -> Line:
    logger = CSVLogger(folder)
    arguments = {"gradient_clip_val": 1.0, "log_every_n_steps": 1, "logger": logger, **arguments}
    module = Line()
    make_trainer(profiler, folder, SavesEachEpoch(folder), **arguments).fit(module, loader(3), loader(2))
    return module


def test_every_part_of_a_fit_is_an_action_as_often_as_it_runs(tmp_path: Path) -> None:
    profiler = Tree()
    fit(profiler, tmp_path)
    assert profiler.counts == OF_A_FIT
    assert profiler.open == []


def test_the_parts_are_nested_as_the_loops_are(tmp_path: Path) -> None:
    profiler = Tree()
    fit(profiler, tmp_path)
    assert [path for path in profiler.paths if len(path) == 1] == [("trainer.fit",)]
    assert profiler.inside("trainer.fit") == {
        "setup",
        f"{ON_THE_CPU}.place",
        "[LightningModule]Line.configure_optimizers",
        "run_sanity_check",
        "run_training_epoch",
    }
    assert profiler.inside("run_training_epoch") == {
        f"{TRAINING_LOOP}_iter",
        f"{TRAINING_LOOP}_next",
        "run_training_batch",
        "run_validation",
        "[Callback]SavesEachEpoch.on_train_epoch_end",
    }
    assert profiler.inside("run_training_batch") == {
        f"{ON_THE_CPU}.training_step",
        "optimizer_zero_grad",
        f"{ON_THE_CPU}.backward",
        "[LightningModule]Line.configure_gradient_clipping",
        "optimizer_step",
        "[LightningModule]Line.lr_scheduler_step",
        "log_metrics",
    }
    of_an_evaluation = {"[_EvaluationLoop].val_iter", "[_EvaluationLoop].val_next", f"{ON_THE_CPU}.validation_step"}
    assert profiler.inside("run_validation") == of_an_evaluation | {"log_metrics"}
    assert profiler.inside("run_sanity_check") == of_an_evaluation
    assert profiler.inside("[Callback]SavesEachEpoch.on_train_epoch_end") == {"save_checkpoint"}


def test_an_accumulation_window_has_one_optimizer_step(tmp_path: Path) -> None:
    profiler = Tree()
    fit(profiler, tmp_path, accumulate_grad_batches=2)
    counts = profiler.counts
    assert {name: counts[name] for name in ("optimizer_step", "optimizer_zero_grad")} == {
        "optimizer_step": 4,
        "optimizer_zero_grad": 4,
    }
    assert counts[f"{ON_THE_CPU}.training_step"] == counts[f"{ON_THE_CPU}.backward"] == 6


@pytest.mark.parametrize(
    ("entry_point", "loop", "stage"), [("validate", "validation", "val"), ("test", "test", "test")]
)
def test_the_parts_of_an_evaluation(entry_point: str, loop: str, stage: str, tmp_path: Path) -> None:
    profiler = Tree()
    trainer = make_trainer(profiler, tmp_path)
    getattr(trainer, entry_point)(Line(), loader(3), verbose=False)
    assert profiler.counts == {
        f"trainer.{entry_point}": 1,
        "setup": 1,
        "prepare_data": 1,
        f"{ON_THE_CPU}.place": 1,
        f"run_{loop}": 1,
        f"[_EvaluationLoop].{stage}_iter": 1,
        f"[_EvaluationLoop].{stage}_next": 3,
        f"{ON_THE_CPU}.{loop}_step": 3,
    }


def test_the_parts_of_a_prediction(tmp_path: Path) -> None:
    profiler = Tree()
    make_trainer(profiler, tmp_path).predict(Line(), [loader(3), loader(2)])
    assert profiler.counts == {
        "trainer.predict": 1,
        "setup": 1,
        "prepare_data": 1,
        f"{ON_THE_CPU}.place": 1,
        "run_prediction": 1,
        "[_PredictionLoop].predict_iter": 2,
        "[_PredictionLoop].predict_next": 5,
        f"{ON_THE_CPU}.predict_step": 5,
    }


def test_a_restored_checkpoint_and_a_transfer_are_parts_where_there_is_something_to_do(tmp_path: Path) -> None:
    class Moves(Line):
        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            return [part.to(device) for part in batch]

    fit(Tree(), tmp_path)
    profiler = Tree()
    trainer = make_trainer(profiler, tmp_path, max_epochs=3, limit_val_batches=0)
    trainer.fit(Moves(), loader(3), ckpt_path=tmp_path / "last.ckpt")
    counts = profiler.counts
    assert counts["restore_checkpoint"] == 2  # the module and the callbacks, then the optimizers
    assert counts[f"{ON_THE_CPU}.batch_to_device"] == 3
    assert counts["[LightningModule]Moves.transfer_batch_to_device"] == 3


# Batches that are fetched, from loaders of every kind.


class Streams:
    """An iterable without a length."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter([[torch.ones(2, 2)]] * 3)


@pytest.mark.parametrize(
    "given",
    [loader(3), DataLoader(TensorDataset(torch.ones(3, 2, 2)), batch_size=None)],
    ids=["batches", "samples that are batches"],
)
def test_every_fetch_that_is_counted_is_a_batch(given: Any, tmp_path: Path) -> None:
    profiler = Tree()
    make_trainer(profiler, tmp_path, limit_val_batches=0).fit(Line(), given)
    assert profiler.counts[f"{TRAINING_LOOP}_next"] == 6


def test_the_fetches_of_a_loader_without_a_length_are_counted_too(tmp_path: Path) -> None:
    profiler = Tree()
    make_trainer(profiler, tmp_path, limit_val_batches=0).fit(Line(), Streams())
    assert profiler.counts[f"{TRAINING_LOOP}_next"] == 6
    assert profiler.counts["run_training_batch"] == 6


def test_batches_that_a_limit_leaves_are_not_fetched(tmp_path: Path) -> None:
    profiler = Tree()
    make_trainer(profiler, tmp_path, limit_val_batches=0, max_epochs=-1, max_steps=4).fit(Line(), loader(3))
    assert profiler.counts[f"{TRAINING_LOOP}_next"] == profiler.counts["optimizer_step"] == 4


# Optimizers


class StepsTwo(Line):
    """Manual optimization, with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        first, second = self.optimizers()
        for optimizer, layer in ((first, self.layer), (second, self.other)):
            optimizer.zero_grad()
            layer(batch[0]).square().mean().backward()
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]


def test_steps_in_manual_optimization_are_parts_of_the_training_step(tmp_path: Path) -> None:
    profiler = Tree()
    make_trainer(profiler, tmp_path, limit_val_batches=0).fit(StepsTwo(), loader(3))
    assert profiler.counts["optimizer_step"] == profiler.counts["optimizer_zero_grad"] == 2 * 6
    assert {"optimizer_step", "optimizer_zero_grad"} <= profiler.inside(f"{ON_THE_CPU}.training_step")


def test_a_step_with_a_closure_holds_what_the_closure_does(tmp_path: Path) -> None:
    class Refines(Line):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), max_iter=1)

    profiler = Tree()
    make_trainer(profiler, tmp_path, limit_val_batches=0).fit(Refines(), loader(3))
    assert profiler.counts["optimizer_step"] == 6
    assert f"{ON_THE_CPU}.training_step" in profiler.inside("optimizer_step")


class KeepsItsOptimizer(Line):
    """Gives the same optimizer to every fit, with a `step` of its own on the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        step = self.optimizer.step

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            return step(*args, **kwargs)

        self.optimizer.step = counted  # type: ignore[method-assign]
        self.counted = counted

    def configure_optimizers(self) -> Any:
        return self.optimizer


def test_an_optimizer_that_is_used_again_is_timed_once_and_given_back_as_it_was(tmp_path: Path) -> None:
    module = KeepsItsOptimizer()
    for _ in range(2):
        profiler = Tree()
        trainer = make_trainer(profiler, tmp_path, limit_val_batches=0)
        trainer.fit(module, loader(3))
        assert profiler.counts["optimizer_step"] == profiler.counts["optimizer_zero_grad"] == 6
        assert vars(module.optimizer)["step"] is module.counted
        assert "zero_grad" not in vars(module.optimizer)
    assert module.steps == 12


def test_an_optimizer_is_given_back_after_an_error_too(tmp_path: Path) -> None:
    class Breaks(KeepsItsOptimizer):
        def on_after_backward(self) -> None:
            raise RuntimeError("planted")

    module = Breaks()
    profiler = Tree()
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(profiler, tmp_path, limit_val_batches=0).fit(module, loader(3))
    assert vars(module.optimizer)["step"] is module.counted
    assert profiler.open == []


def test_being_profiled_changes_no_number(tmp_path: Path) -> None:
    def weights(profiler: Profiler | None) -> list[Tensor]:
        torch.manual_seed(3)
        module = Line()
        make_trainer(profiler, tmp_path, gradient_clip_val=0.1).fit(module, loader(3), loader(2))
        return [parameter.detach() for parameter in module.parameters()]

    assert all(map(torch.equal, weights(SimpleProfiler()), weights(None)))


# How long


def test_the_parts_add_up_to_no_more_than_the_whole(tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    fit(profiler, tmp_path)
    times = {action.name: action for action in profiler.actions()}
    assert {name: action.calls for name, action in times.items()} == OF_A_FIT
    whole = times["trainer.fit"].total
    assert 0 < whole <= profiler.profiled_seconds
    # Exactly: every nanosecond belongs to the action that started last.
    assert sum(action.own for action in times.values()) == pytest.approx(whole, rel=1e-9)

    tree = Tree()
    fit(tree, tmp_path)
    for outer in ("trainer.fit", "run_training_epoch", "run_training_batch", "setup"):
        inner = tree.inside(outer)
        # Parts that run elsewhere too have more time than what they took here, so these are left out.
        only_here = [name for name in inner if all(path[-2:-1] == (outer,) for path in tree.paths if path[-1] == name)]
        assert only_here
        assert sum(times[name].total for name in only_here) <= times[outer].total
    assert times["run_training_batch"].own <= times["run_training_batch"].total


def test_the_table_tells_parts_hooks_and_callbacks_apart(tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    fit(profiler, tmp_path)

    def calls(actions: list[ActionTime]) -> dict[str, int]:
        return {action.name: action.calls for action in actions}

    assert calls(profiler.parts()) == {name: count for name, count in OF_A_FIT.items() if not is_hook(name)}
    assert calls(profiler.hooks()) == {
        "configure_optimizers": 1,
        "configure_gradient_clipping": 6,
        "lr_scheduler_step": 2,
        "on_train_epoch_end": 2,
    }
    assert calls(profiler.callbacks()) == {"[LightningModule]Line": 1 + 6 + 2, "[Callback]SavesEachEpoch": 2}
    save = {action.name: action for action in profiler.actions()}["save_checkpoint"]
    [saves] = [action for action in profiler.callbacks() if action.name == "[Callback]SavesEachEpoch"]
    assert saves.own + save.total <= saves.total * (1 + 1e-9)


def is_hook(name: str) -> bool:
    return name.startswith(("[Callback]", "[LightningModule]"))


# Parts that users name themselves


class Names(Line):
    """Times a part of each hook that a module has in all stages."""

    def setup(self, stage: str) -> None:
        with self.trainer.profiler.profile("mine: setup"):
            pass

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        with self.trainer.profiler.profile("mine: step"):
            return super().training_step(batch, batch_idx)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        with self.trainer.profiler.profile("mine: step"):
            super().validation_step(batch, batch_idx)

    def predict_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        with self.trainer.profiler.profile("mine: step"):
            return super().predict_step(batch, batch_idx)

    def teardown(self, stage: str) -> None:
        with self.trainer.profiler.profile("mine: teardown"):
            pass


def test_a_module_names_its_own_parts_in_every_stage_and_hook(tmp_path: Path) -> None:
    profiler = Tree()
    trainer = make_trainer(profiler, tmp_path, num_sanity_val_steps=1)
    module = Names()
    trainer.fit(module, loader(3), loader(2))
    trainer.validate(module, loader(2), verbose=False)
    trainer.predict(module, loader(3))
    assert trainer.profiler is profiler
    mine = {name: count for name, count in profiler.counts.items() if name.startswith("mine")}
    assert mine == {"mine: setup": 3, "mine: step": 6 + (1 + 2 * 2) + 2 + 3, "mine: teardown": 3}


@pytest.mark.parametrize("name", [None, "simple", "advanced", "pytorch"])
def test_a_module_may_name_parts_whichever_profiler_there_is(
    name: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(name, tmp_path, limit_val_batches=0)
    with trainer.profiler.profile("before any run"):
        pass
    trainer.fit(Names(), loader(3))
    with trainer.profiler.profile("after the run"):
        pass
    assert (type(trainer.profiler) is PassThroughProfiler) is (name is None)
    assert ("mine: step" in capsys.readouterr().out) is (name is not None)
