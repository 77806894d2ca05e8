"""`trainer.predict_iter`: the predictions of `trainer.predict`, one at a time, and the process as it was in between."""

import gc
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hookloop import Callback, LambdaCallback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyDataModule, TinyModule

Trains = Callable[..., Trainer]


@pytest.fixture
def make(tmp_path: Path) -> Trains:
    def made(*callbacks: Callback, **arguments: Any) -> Trainer:
        given = {"logger": False, "registered_callbacks": False, "accelerator": "cpu", "default_root_dir": tmp_path}
        return Trainer(callbacks=list(callbacks), **{**given, **arguments})

    return made


def plainly(data: TinyDataModule) -> list[Tensor]:
    module = TinyModule().eval()
    loaders = data.predict_dataloader()
    with torch.no_grad():
        return [module(batch) for one in (loaders if data.loaders > 1 else [loaders]) for batch in one]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def test_it_yields_what_a_plain_loop_computes(make: Trains) -> None:
    data = TinyDataModule()

    assert same(list(make().predict_iter(TinyModule(), datamodule=data)), plainly(data))


def test_several_loaders_come_one_after_another(make: Trains) -> None:
    data = TinyDataModule(loaders=2)

    assert same(list(make().predict_iter(TinyModule(), dataloaders=data.predict_dataloader())), plainly(data))


def test_the_weights_come_from_a_checkpoint_that_is_named(make: Trains, tmp_path: Path) -> None:
    trained, data, path = TinyModule(), TinyDataModule(), tmp_path / "trained.ckpt"
    trainer = make(max_epochs=1)
    trainer.fit(trained, datamodule=data)
    trainer.save_checkpoint(path)

    steps = make().predict_iter(model=TinyModule(), datamodule=data, ckpt_path=path, weights_only=True)

    with torch.no_grad():
        expected = [trained.eval()(batch) for batch in data.predict_dataloader()]
    assert same(list(steps), expected)
    assert not same(expected, plainly(data))


def test_a_batch_is_not_computed_before_it_is_asked_for(make: Trains) -> None:
    seen: list[int] = []
    trainer = make(LambdaCallback(on_predict_batch_start=lambda trainer, module, batch, index: seen.append(index)))
    steps = trainer.predict_iter(TinyModule(), datamodule=TinyDataModule())
    assert seen == []
    next(steps)
    assert seen == [0]
    next(steps)
    assert seen == [0, 1]
    assert next(steps, None) is None


HOOKS = "setup on_predict_start on_predict_epoch_start on_predict_batch_start on_predict_batch_end on_predict_epoch_end"
ALL = [*HOOKS.split(), "on_predict_end", "on_exception", "teardown"]


def noting(calls: list[str]) -> Callback:
    def note(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.append(name)

    return LambdaCallback(**{name: note(name) for name in ALL})


def test_the_hooks_are_those_of_predict_in_their_order(make: Trains) -> None:
    iterated: list[str] = []
    at_once: list[str] = []

    list(make(noting(iterated)).predict_iter(TinyModule(), datamodule=TinyDataModule()))
    make(noting(at_once)).predict(TinyModule(), datamodule=TinyDataModule())

    assert iterated == at_once
    assert "on_predict_end" in iterated


def test_whoever_leaves_early_ends_the_run_without_an_exception(make: Trains) -> None:
    calls: list[str] = []
    trainer, module = make(noting(calls)), TinyModule()
    with closing(trainer.predict_iter(module, datamodule=TinyDataModule())) as steps:
        next(steps)
        assert trainer.state.status == "running"
        assert not module.training

    assert calls == [*HOOKS.split()[:-1], "teardown"]
    assert trainer.state.status == "finished"
    assert module.training
    assert same(list(trainer.predict_iter(module, datamodule=TinyDataModule())), plainly(TinyDataModule()))


def test_an_iterator_that_was_never_asked_leaves_no_trace(make: Trains) -> None:
    calls: list[str] = []
    trainer, module = make(noting(calls)), TinyModule()
    trainer.predict_iter(module, datamodule=TinyDataModule()).close()

    assert calls == []
    assert trainer.lightning_module is None


def test_another_entry_point_is_refused_until_it_is_over(make: Trains) -> None:
    trainer = make()
    steps = trainer.predict_iter(TinyModule(), datamodule=TinyDataModule())
    next(steps)
    with pytest.raises(MisconfigurationError, match=r"trainer.fit\(\) was called while this trainer runs predict\(\)"):
        trainer.fit(TinyModule(), datamodule=TinyDataModule())
    steps.close()


def settings() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)),
    )


def test_between_two_batches_the_process_is_as_it_was(make: Trains) -> None:
    def inside(trainer: Any, module: Any, batch: Any, index: int) -> None:
        assert torch.is_inference_mode_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert signal.getsignal(signal.SIGTERM) != before[4]

    before = settings()
    trainer = make(LambdaCallback(on_predict_batch_start=inside), deterministic=True)
    for _ in trainer.predict_iter(TinyModule(), datamodule=TinyDataModule()):
        assert settings() == before
    assert settings() == before


def test_two_models_go_through_their_data_side_by_side(make: Trains) -> None:
    before = settings()
    pairs = list(
        zip(
            make().predict_iter(TinyModule(), datamodule=TinyDataModule()),
            make().predict_iter(TinyModule(), datamodule=TinyDataModule()),
            strict=True,
        )
    )

    assert settings() == before
    for column in zip(*pairs, strict=True):
        assert same(list(column), plainly(TinyDataModule()))


def test_what_predict_step_raises_reaches_everybody_and_the_caller(make: Trains) -> None:
    class Fails(TinyModule):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            if batch_idx == 1:
                raise LookupError("no such word")
            return super().predict_step(batch, batch_idx)

    calls: list[str] = []
    trainer = make(noting(calls))
    before = settings()
    steps = trainer.predict_iter(Fails(), datamodule=TinyDataModule())
    next(steps)
    with pytest.raises(LookupError, match="no such word"):
        next(steps)

    assert calls[-2:] == ["on_exception", "teardown"]
    assert trainer.interrupted
    assert settings() == before


@pytest.mark.parametrize("on_interrupt", ["raise", "return"])
def test_a_ctrl_c_in_a_batch_does_what_the_trainer_was_told_to_do(make: Trains, on_interrupt: str) -> None:
    trainer = make(
        LambdaCallback(on_predict_batch_start=lambda *arguments: signal.raise_signal(signal.SIGINT)),
        on_interrupt=on_interrupt,
    )
    steps = trainer.predict_iter(TinyModule(), datamodule=TinyDataModule())
    if on_interrupt == "raise":
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    else:
        assert list(steps) == []
    assert trainer.interrupted


def test_a_sigterm_in_a_batch_ends_the_run_after_it(make: Trains) -> None:
    heard: list[int] = []
    trainer = make(
        LambdaCallback(
            on_predict_batch_start=lambda *arguments: signal.raise_signal(signal.SIGTERM),
            on_preemption=lambda trainer, module, number: heard.append(number),
        )
    )
    with pytest.raises(SystemExit) as ended:
        next(trainer.predict_iter(TinyModule(), datamodule=TinyDataModule()))
    assert ended.value.code == 143
    assert heard == [signal.SIGTERM]


def test_a_prediction_that_is_let_go_of_is_not_kept(make: Trains) -> None:
    steps = make().predict_iter(TinyModule(), datamodule=TinyDataModule())
    first = weakref.ref(next(steps))
    next(steps)
    gc.collect()
    assert first() is None
    steps.close()


def test_a_step_that_fetches_its_batches_is_refused(make: Trains) -> None:
    class Fetches(LightningModule):
        def predict_step(self, dataloader_iter: Iterator[Any]) -> Any:
            return next(dataloader_iter)

    with pytest.raises(MisconfigurationError, match=r"Fetches.predict_step takes a dataloader_iter.*trainer.predict"):
        next(make().predict_iter(Fetches(), TinyDataModule().predict_dataloader()))


def test_no_batch_at_all_yields_nothing(make: Trains) -> None:
    assert list(make(limit_predict_batches=0).predict_iter(TinyModule(), datamodule=TinyDataModule())) == []
