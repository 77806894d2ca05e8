"""`trainer.trial`: a few batches are run apart from the run, and afterwards everything is as it was, bit for bit."""

import copy
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LambdaCallback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop.random_state import random_state
from hookloop.run.unchanged import unchanged
from hookloop.testing import TinyDataModule, TinyModule
from hookloop.testing.equality import difference


class Careless(TinyModule):
    """Changes whatever a module can: buffers, counters, lists, modes, gradients, what needs them; draws and logs."""

    def __init__(self, batches: int = 4) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.counts: dict[str, Any] = {"steps": [0], "seen": {1, 2}, "last": deque([1.0], maxlen=3)}
        self.loss_sum = torch.zeros(())
        self.calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mean += batch.mean(0)
        self.calls += 1
        steps: Any = self.counts["steps"]
        steps.append(batch_idx)
        self.counts["new"] = [torch.rand(1)]
        self.frozen.requires_grad_(True)
        self.net[2].eval()
        self.loss_sum += 1
        self.extra = object()
        return super().training_step(batch, batch_idx) + self.frozen.sum()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "train_loss"}}


def everything(trainer: Any, module: LightningModule) -> dict[str, Any]:
    def copied(value: Any) -> Any:
        return copy.deepcopy(value)

    return {
        "weights": copied(dict(module.named_parameters())),
        "buffers": copied(dict(module.named_buffers())),
        "gradients": {name: copied(one.grad) for name, one in module.named_parameters()},
        "needs": {name: one.requires_grad for name, one in module.named_parameters()},
        "modes": [part.training for part in module.modules()],
        "attributes": {
            name: [sorted(map(str, value.items()))] if isinstance(value, dict) else copied(value)
            for name, value in vars(module).items()
            if not name.startswith("_")
        },
        "identities": [id(one) for one in module.parameters()],
        "optimizers": [copied(one.state_dict()) for one in trainer.optimizers],
        "schedulers": [copied(one.scheduler.state_dict()) for one in trainer.lr_scheduler_configs],
        "random": {name: one for name, one in random_state().items() if name != "numpy"},
        "counters": [trainer.global_step, trainer.current_epoch, trainer.max_steps, trainer.max_epochs],
        "state": [str(trainer.state.stage), trainer.state.should_stop, str(trainer.state.status)],
        "callbacks": [type(one).__name__ for one in trainer.callbacks],
        "metrics": sorted(trainer.callback_metrics),
        "loggers": [type(one).__name__ for one in trainer.loggers],
    }


class Tries(Callback):
    """Makes a trial where a fit begins, compares what was before and after, and goes on."""

    def __init__(self, fails: bool = False, steps: int = 6) -> None:
        self.fails, self.steps = fails, steps
        self.losses: list[float] = []
        self.difference: str | None = "not tried"

    def on_fit_start(self, trainer: Any, pl_module: LightningModule) -> None:
        for parameter in list(pl_module.parameters())[:2]:
            parameter.grad = torch.ones_like(parameter)
        before = everything(trainer, pl_module)
        calls = self

        class Listens(Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
                calls.losses.append(outputs["loss"].item())
                if calls.fails and len(calls.losses) == 3:
                    raise LookupError("no luck")

        try:
            trainer.trial([Listens()], max_steps=self.steps, limit_val_batches=1)
        except LookupError:
            assert self.fails
        self.difference = difference(everything(trainer, pl_module), before)
        pl_module.zero_grad()


def fit(folder: Path, *callbacks: Callback, data: Any = None, **arguments: Any) -> Careless:
    torch.manual_seed(3)
    given = {"max_epochs": 2, "registered_callbacks": False, "accelerator": "cpu", "log_every_n_steps": 1}
    trainer = Trainer(
        callbacks=list(callbacks), logger=CSVLogger(folder), default_root_dir=folder, **{**given, **arguments}
    )
    module = Careless()
    loaders = {"datamodule": TinyDataModule()} if data is None else {"train_dataloaders": data}
    trainer.fit(module, **loaders)
    return module


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shuffled(own_generator: bool) -> DataLoader[Any]:
    class Rows(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return self.tensors[0][index] + torch.rand(4)  # draws, as augmentations do

    values = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(6) if own_generator else None
    return DataLoader(Rows(values), batch_size=2, shuffle=True, generator=generator)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was_even_after_an_exception(fails: bool, tmp_path: Path) -> None:
    tries = Tries(fails)
    fit(tmp_path, tries)

    assert tries.difference is None
    assert len(tries.losses) == (3 if fails else 6)
    assert len(set(tries.losses)) > 1  # it trained


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
def test_the_run_that_follows_is_the_one_that_there_would_have_been(
    fails: bool, own_generator: bool, tmp_path: Path
) -> None:
    with_trial, without = tmp_path / "with", tmp_path / "without"
    one = fit(with_trial, Tries(fails), data=shuffled(own_generator))
    other = fit(without, data=shuffled(own_generator))

    assert difference(one.state_dict(), other.state_dict()) is None
    assert files(with_trial) == files(without)
    assert one.calls == other.calls


def test_a_trial_trains_as_a_fit_does(tmp_path: Path) -> None:
    tries = Tries(steps=4)
    fit(tmp_path, tries, max_epochs=1)
    plain, optimizer = Careless(), None
    torch.manual_seed(3)
    losses = []
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05)
    plain.log = lambda *arguments, **keywords: None  # type: ignore[method-assign]
    for batch_idx, batch in enumerate(TinyDataModule().train_dataloader()):
        optimizer.zero_grad()
        loss = plain.training_step(batch, batch_idx)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert tries.losses[0] == pytest.approx(losses[0])  # later ones depend on the seed of the loader


def test_it_can_be_ended_early_and_that_ends_no_more(tmp_path: Path) -> None:
    def stop(trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        seen.append(index)
        trainer.should_stop = True

    seen: list[int] = []
    trial = LambdaCallback(on_train_batch_end=stop)
    begin = LambdaCallback(on_fit_start=lambda trainer, module: trainer.trial([trial], max_steps=50))
    assert fit(tmp_path, begin).calls == 8
    assert seen == [0]


def test_only_the_callbacks_that_are_passed_hear_of_it(tmp_path: Path) -> None:
    heard: list[str] = []
    begin = LambdaCallback(
        on_fit_start=lambda trainer, module: trainer.trial(
            [LambdaCallback(on_validation_batch_end=lambda *arguments: heard.append("trial"))],
            max_steps=2,
            limit_val_batches=1,
        ),
        on_train_batch_end=lambda *arguments: heard.append("run"),
    )
    fit(tmp_path, begin, max_epochs=1)
    assert heard == ["trial"] + ["run"] * 4


@pytest.mark.parametrize(
    ("entry", "hook"),
    [("validate", "on_validation_start"), ("test", "on_test_start"), ("predict", "on_predict_start")],
)
def test_in_other_entry_points_it_runs_their_batches(entry: str, hook: str, tmp_path: Path) -> None:
    heard: list[int] = []
    kind = {"validate": "validation"}.get(entry, entry)
    note: Any = {f"on_{kind}_batch_start": lambda trainer, module, batch, index: heard.append(index)}
    begin: Any = {hook: lambda trainer, module: trainer.trial([LambdaCallback(**note)], max_steps=1)}
    tries = LambdaCallback(**begin)
    trainer = Trainer(callbacks=[tries], logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    plain = Trainer(logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    module = TinyModule()

    result = getattr(trainer, entry)(module, datamodule=TinyDataModule())
    assert heard == [0]
    assert difference(result, getattr(plain, entry)(module, datamodule=TinyDataModule())) is None


@pytest.mark.parametrize("stage", ["val", "test", "predict"])
def test_forgotten_loaders_are_asked_for_anew(stage: str, tmp_path: Path) -> None:
    class Sized(TinyDataModule):
        size = 1

        def loader(self) -> Any:
            return DataLoader(torch.randn(6, 4), batch_size=self.size)  # type: ignore[arg-type]

    def change(trainer: Any, module: Any) -> None:
        trainer.datamodule.size = 3
        trainer.forget_dataloaders()

    def note(trainer: Any, module: Any, batch: Tensor, index: int) -> None:
        sizes.append(len(batch))

    sizes: list[int] = []
    setattr(Sized, f"{stage}_dataloader", Sized.loader)
    kind = {"val": "validation"}.get(stage, stage)
    hooks: Any = {f"on_{kind}_start": change, f"on_{kind}_batch_start": note}
    callback = LambdaCallback(**hooks)
    trainer = Trainer(callbacks=[callback], logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    getattr(trainer, {"val": "validate"}.get(stage, stage))(TinyModule(), datamodule=Sized())
    assert sizes == [3, 3]


def test_what_can_be_gone_through_once_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    batches = iter([torch.ones(2, 4)])
    with pytest.raises(
        MisconfigurationError, match=r"trial\(\) reads batches, and the list_iterator .* gone through o"
    ):
        fit(tmp_path, Tries(), data=batches)
    assert next(batches) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, r"trial\(max_steps=0\) must be a whole number of at least 1"),
        ({"max_steps": 1.5}, r"trial\(max_steps=1.5\) must be a whole number"),
        ({"max_steps": 1, "limit_val_batches": -1}, r"trial\(limit_val_batches=-1\) must be a whole number of at le"),
    ],
)
def test_numbers_that_are_none_are_errors(arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        fit(tmp_path, LambdaCallback(on_fit_start=lambda trainer, module: trainer.trial(**arguments)))


def test_outside_of_an_entry_point_there_is_nothing_to_try(tmp_path: Path) -> None:
    trainer = Trainer(logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationError, match=r"runs batches of the entry point that is under way, and none is"):
        trainer.trial(max_steps=1)
    with pytest.raises(MisconfigurationError, match=r"forget_dataloaders\(\) needs a module"):
        trainer.forget_dataloaders()


def test_unchanged_gives_back_values_and_keeps_identities() -> None:
    module = Careless()
    layer: Any = module.net[0]
    weight, steps = layer.weight, module.counts["steps"]
    value = weight.detach().clone()

    def spoil() -> None:
        with unchanged(module, None):
            with torch.no_grad():
                weight.zero_()
            layer.weight = nn.Parameter(torch.ones(8, 4))
            steps.append(3)
            module.counts = {}
            del module.calls
            raise LookupError

    with pytest.raises(LookupError):
        spoil()
    assert layer.weight is weight
    assert torch.equal(weight, value)
    assert module.counts["steps"] is steps
    assert steps == [0]
    assert module.calls == 0
