"""What hookloop.testing offers beside the rules: the contract under pytest, a tiny module, a recorder."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LambdaCallback, LightningModule, Trainer
from hookloop.errors import CallbackContractError
from hookloop.testing import CallbackContract, HookCall, HookRecorder, TinyDataModule, TinyModule, check_callback
from hookloop.testing.equality import difference
from hookloop.testing.rules import RULES
from hookloop.view import TrainerView


def trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given: dict[str, Any] = {"max_epochs": 2, "logger": False, "registered_callbacks": False, **arguments}
    return Trainer(accelerator="cpu", callbacks=list(callbacks), default_root_dir=folder, **given)


# ---------------------------------------------------------------------------------------------- the core's own


class TestLambdaCallback(CallbackContract):
    max_calls_per_step = 2

    def callback(self) -> Callback:
        return LambdaCallback(
            on_train_batch_end=lambda trainer, pl_module, outputs, batch, batch_idx: None,
            setup=lambda trainer, pl_module, stage: None,
        )


class TestHookRecorder(CallbackContract):
    def callback(self) -> Callback:
        return HookRecorder()


class TestOfAState(CallbackContract):
    varying = ("seconds", "*_random")
    trainer_arguments = {"gradient_clip_val": 1.0}  # noqa: RUF012 - as users write it
    changes_training = True

    class Noisy(Callback):
        """Draws random numbers, and remembers them."""

        seconds = 0.0

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            assert trainer.gradient_clip_val == 1.0
            self.seconds = float(id(object()))
            self.log("of_random", float(id(object())))

        def state_dict(self) -> dict[str, Any]:
            return {"seconds": self.seconds}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.seconds = state_dict["seconds"]

    def callback(self) -> Callback:
        assert self.folder.is_dir()
        return self.Noisy()


# ------------------------------------------------------------------------------------------------- under pytest


CONTRACTS = """
from hookloop import Callback
from hookloop.testing import CallbackContract

class Fails(Callback):
    def on_test_start(self, trainer, pl_module):
        raise LookupError("planted")

class TestGood(CallbackContract):
    def callback(self):
        return Callback()

class TestFails(CallbackContract):
    def callback(self):
        return Fails()

class TestUndefined(CallbackContract):
    pass
"""


def test_four_lines_are_a_test_for_each_rule(tmp_path: Path) -> None:
    file = tmp_path / "test_mine.py"
    file.write_text(CONTRACTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)

    def outcomes(word: str, name: str) -> set[str]:
        lines = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(f"{word} ")]
        return {line.rpartition("::")[2] for line in lines if f"::{name}::" in line}

    rules = {f"test_{rule.__name__}" for rule in RULES}
    assert outcomes("PASSED", "TestGood") == rules
    assert outcomes("FAILED", "TestFails") == {"test_works_in_test"}
    assert "Fails made trainer.test fail: LookupError: planted (in on_test_start, test_mine.py:7)." in done.stdout
    assert "SKIPPED" in done.stdout
    assert "a run with it fails: LookupError: planted" in done.stdout
    assert "TestUndefined has to define callback(self), which returns a new callback." in done.stdout
    assert outcomes("PASSED", "TestUndefined") == set()
    assert "Callback adds 0 Python calls to a training step." in done.stdout


def test_the_kit_works_without_pytest_and_is_not_loaded_by_hookloop() -> None:
    program = """
import sys
sys.modules["pytest"] = None
import hookloop
assert not [name for name in sys.modules if name.startswith("hookloop.testing")]
from hookloop.testing import check_callback
print(check_callback(hookloop.Callback).calls_per_step)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0.0\n", "")


def test_a_check_prints_nothing_and_leaves_random_numbers_as_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = torch.get_rng_state()
    check_callback(lambda: LambdaCallback(on_train_start=lambda trainer, pl_module: print("planted")))
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_a_callback_may_refuse_a_kind_of_run_in_words() -> None:
    from hookloop.errors import MisconfigurationError

    def refuse(trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if trainer.logger is None:
            raise MisconfigurationError("There is nobody to log to. Pass a logger.")

    assert check_callback(lambda: LambdaCallback(setup=refuse)).failed == ()


def test_an_error_names_the_callback_and_counts_the_rules_that_it_breaks() -> None:
    def fail(trainer: TrainerView, pl_module: LightningModule) -> None:
        raise LookupError("planted")

    with pytest.raises(
        CallbackContractError, match=r"^LambdaCallback breaks 2 of 18 rules\.\nLambdaCallback:\n  passed"
    ):
        check_callback(lambda: LambdaCallback(on_test_start=fail, on_predict_end=fail))


# ------------------------------------------------------------------------------------------------------- parts


def test_the_tiny_module_is_the_same_each_time_and_learns(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, other = TinyModule(), TinyModule()
    assert torch.equal(torch.get_rng_state(), before)
    assert difference(one.state_dict(), other.state_dict()) is None

    data = TinyDataModule(batches=6)
    first = trainer(tmp_path).validate(one, datamodule=data, verbose=False)[0]["val_loss"]
    fitted = trainer(tmp_path, max_epochs=20)
    fitted.fit(one, datamodule=data)
    assert fitted.global_step == 20 * 6
    assert fitted.validate(one, datamodule=data, verbose=False)[0]["val_loss"] < first


def test_the_tiny_module_logs_what_rises_falls_and_wavers(tmp_path: Path) -> None:
    values: list[tuple[float, float, float]] = []

    def note(trainer: TrainerView, pl_module: LightningModule) -> None:
        logged = trainer.callback_metrics
        values.append((float(logged["rising"]), float(logged["falling"]), float(logged["wavering"])))

    watch = LambdaCallback(on_train_epoch_end=note)
    trainer(tmp_path, watch, max_epochs=6).fit(TinyModule(), datamodule=TinyDataModule())
    assert values == [(0, 0, 3), (1, -1, 1), (2, -2, 2), (3, -3, 2), (4, -4, 4), (5, -5, 3)]


def test_tiny_data_has_several_loaders_if_asked(tmp_path: Path) -> None:
    data = TinyDataModule(batches=3, loaders=2)
    batches = list(data.train_dataloader()["loader_1"])
    assert [(tuple(batch.shape), batch.dtype) for batch in batches] == [((2, 4), torch.float32)] * 3
    predicted = trainer(tmp_path).predict(TinyModule(), datamodule=data)
    assert predicted is not None
    assert [[tuple(each.shape) for each in loader] for loader in predicted] == [[(2, 1)] * 2] * 2


def test_a_recorder_writes_down_every_hook_and_several_share_a_list(tmp_path: Path) -> None:
    calls: list[HookCall] = []
    one, other = HookRecorder("one", calls), HookRecorder("other", calls)
    trainer(tmp_path, one, other, max_epochs=1, num_sanity_val_steps=0, limit_train_batches=1).fit(
        TinyModule(), datamodule=TinyDataModule()
    )
    assert one.hooks == other.hooks
    assert one.hooks[:4] == ["setup", "on_fit_start", "on_train_start", "on_train_epoch_start"]
    assert one.hooks[-4:] == ["on_train_epoch_end", "on_train_end", "on_fit_end", "teardown"]
    assert [call.who for call in calls[:4]] == ["one", "other", "one", "other"]
    assert one.of("setup") == [("fit",)]
    [(batch, batch_idx)] = one.of("on_train_batch_start")
    assert (tuple(batch.shape), batch_idx) == ((2, 4), 0)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1]: 2 instead of 3"),
        ({"a": 1}, {}, "a is there, and should not be"),
        ({}, {"a": 1}, "a is missing"),
        ([1], [1, 2], ": 1 entries instead of 2"),
        (1, 1.0, ": 1 instead of 1.0"),
        (float("nan"), float("nan"), None),
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]), None),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), "[1]: 2.0 instead of 2.5"),
        (torch.tensor(1), torch.tensor(2), ": 1 instead of 2"),
        (torch.ones(2), torch.ones(3), ": torch.float32 of shape (2,) instead of torch.float32 of (3,)"),
    ],
)
def test_a_difference_is_told_with_its_place(one: Any, other: Any, told: str | None) -> None:
    assert difference(one, other) == told
