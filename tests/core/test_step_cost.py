"""What a step costs over a plain PyTorch loop, in Python calls: the same in every run and on every machine."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.hooks import nobody

from .counting import SETTLED, calls_between, calls_of, calls_per_step

BATCHES = 60
CALLBACKS = 10
WINDOW = 4

HOOKS_OF_A_STEP = [
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_after_optimizer_step",
    "on_train_batch_end",
]


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.layer(inputs), targets)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.training_step(batch, batch_idx)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        result: Tensor = self.layer(batch[0])
        return result

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Idle(Callback):
    """Overrides no hook."""


class TwoHooks(Callback):
    def on_train_batch_start(self, *args: Any) -> None: ...

    def on_train_batch_end(self, *args: Any) -> None: ...


def batches() -> DataLoader[tuple[Tensor, ...]]:
    inputs, targets = torch.randn(4 * BATCHES, 32), torch.randint(0, 2, (4 * BATCHES,))
    return DataLoader(TensorDataset(inputs, targets), batch_size=4)


def trainer(*callbacks: Callback, **arguments: Any) -> Trainer:
    return Trainer(max_epochs=1, logger=False, registered_callbacks=False, callbacks=list(callbacks), **arguments)


def fit(module: LightningModule, *callbacks: Callback, **arguments: Any) -> None:
    trainer(*callbacks, **arguments).fit(module, batches())


def train_plainly(module: LightningModule) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for batch_idx, batch in enumerate(batches()):
        optimizer.zero_grad()
        loss = module.training_step(batch, batch_idx)
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def plain() -> int:
    return calls_per_step(Module.training_step, lambda: train_plainly(Module()))


@pytest.fixture(scope="module")
def bare() -> int:
    return calls_per_step(Module.training_step, lambda: fit(Module()))


def with_callbacks(callbacks: Sequence[Callback]) -> int:
    return calls_per_step(Module.training_step, lambda: fit(Module(), *callbacks))


def test_a_bare_training_step_makes_one_call_more_than_a_plain_loop_and_none_for_hooks(plain: int, bare: int) -> None:
    of_the_loop = ["train_batch"]

    assert bare == plain + len(of_the_loop)
    # The target's own number, where torch makes as many calls as when it was set.
    assert bare <= 165 or plain > 140


def test_callbacks_that_override_no_hook_cost_no_call_at_all(bare: int) -> None:
    idle = with_callbacks([Idle() for _ in range(CALLBACKS)])

    assert idle == bare


def test_a_hook_of_a_callback_costs_the_call_of_itself_and_the_first_one_a_dispatcher(plain: int, bare: int) -> None:
    of_the_loop = ["the dispatcher of on_train_batch_start", "that of on_train_batch_end"]

    with_two_hooks_each = with_callbacks([TwoHooks() for _ in range(CALLBACKS)])

    assert with_two_hooks_each == bare + len(of_the_loop) + 2 * CALLBACKS
    assert with_two_hooks_each <= 190 or plain > 140


def test_a_hook_that_nobody_overrides_costs_one_no_op_call_and_in_a_training_step_none() -> None:
    around_training = ["setup", "on_fit_start", "on_train_start", "on_train_end", "on_fit_end", "teardown"]
    of_an_epoch = ["on_train_epoch_start", "on_train_epoch_end"]
    of_a_validation = ["on_validation_start", "on_validation_epoch_start", "on_validation_epoch_end"]
    of_a_validation += ["on_validation_end"]
    of_a_validation_batch = ["on_validation_batch_start", "on_validation_batch_end"]
    expected = len(around_training) + len(of_an_epoch) + len(of_a_validation)
    expected += BATCHES * len(of_a_validation_batch)
    quiet = trainer(enable_progress_bar=False, num_sanity_val_steps=0)

    assert calls_of(nobody, lambda: quiet.fit(Module(), batches(), batches())) == expected


@pytest.mark.parametrize("hook", HOOKS_OF_A_STEP)
@pytest.mark.parametrize("callbacks", [1, 3])
def test_every_hook_of_a_step_that_somebody_overrides_costs_a_dispatcher_and_one_call_for_each_of_them(
    hook: str, callbacks: int, bare: int
) -> None:
    def listen(self: Callback, *args: Any) -> None: ...

    listener = type("Listener", (Callback,), {hook: listen})

    assert with_callbacks([listener() for _ in range(callbacks)]) == bare + 1 + callbacks


@pytest.mark.parametrize("hook", HOOKS_OF_A_STEP)
def test_every_hook_of_a_step_that_the_module_overrides_costs_a_dispatcher_and_one_call(hook: str, bare: int) -> None:
    def listen(self: LightningModule, *args: Any) -> None: ...

    module = type("Listener", (Module,), {hook: listen})()

    assert calls_per_step(Module.training_step, lambda: fit(module)) == bare + 1 + 1


def test_a_value_logged_on_step_and_epoch_makes_6_calls_of_which_2_measure_the_batch(plain: int, bare: int) -> None:
    class Logging(Module):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

    logging = calls_per_step(Logging.training_step, lambda: fit(Logging()))

    assert logging == bare + 6
    assert logging <= 185 or plain > 140


def test_a_second_value_of_a_batch_makes_4_calls_because_the_batch_is_measured_once(bare: int) -> None:
    class Logging(Module):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            self.log("loss", loss, on_step=True, on_epoch=True)
            self.log("again", loss, on_step=True, on_epoch=True)
            return loss

    assert calls_per_step(Logging.training_step, lambda: fit(Logging())) == bare + 6 + 4


def test_every_step_costs_the_same_but_those_that_send_to_loggers(bare: int) -> None:
    steps = calls_between(Module.training_step, lambda: fit(Module(), log_every_n_steps=20))

    # Between the starts of steps 19 and 20, and of 39 and 40: the loggers' turn is at the end of every 20th step.
    sending = [19, 39]
    settled = range(SETTLED, len(steps))
    assert {index: steps[index] for index in settled if steps[index] != bare}.keys() == set(sending)
    assert all(steps[index] <= bare + 10 for index in sending)


def test_clipping_and_accumulation_make_at_most_4_calls_a_step_more_than_a_plain_loop_that_does_both() -> None:
    def train_plainly_in_windows(module: LightningModule) -> None:
        optimizer, parameters = torch.optim.SGD(module.parameters(), lr=0.1), list(module.parameters())
        for batch_idx, batch in enumerate(batches()):
            loss = module.training_step(batch, batch_idx)
            assert isinstance(loss, Tensor)
            (loss / WINDOW).backward()
            if (batch_idx + 1) % WINDOW == 0:
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()

    windows = slice(SETTLED, SETTLED + 10 * WINDOW)
    plain = calls_between(Module.training_step, lambda: train_plainly_in_windows(Module()))[windows]
    in_windows = calls_between(
        Module.training_step, lambda: fit(Module(), accumulate_grad_batches=WINDOW, gradient_clip_val=1.0)
    )[windows]

    assert len(plain) == len(in_windows) == 10 * WINDOW
    assert sum(plain) < sum(in_windows) <= sum(plain) + 4 * 10 * WINDOW


def evaluate_plainly(step: Callable[[list[Tensor], int], object]) -> None:
    with torch.no_grad():
        for batch_idx, batch in enumerate(batches()):
            step(batch, batch_idx)


def test_validation_makes_5_calls_a_batch_more_than_a_plain_loop_2_for_hooks_and_3_for_what_is_logged() -> None:
    def fit_and_validate() -> None:
        trainer(num_sanity_val_steps=0).fit(Module(), batches(), batches())

    plain = calls_per_step(Module.validation_step, lambda: evaluate_plainly(Module().validation_step))
    alone = calls_per_step(Module.validation_step, lambda: trainer().validate(Module(), batches(), verbose=False))
    in_a_fit = calls_per_step(Module.validation_step, fit_and_validate)

    assert alone == in_a_fit == plain + 5


def test_prediction_makes_two_calls_a_batch_more_than_a_plain_loop_one_for_each_hook() -> None:
    plain = calls_per_step(Module.predict_step, lambda: evaluate_plainly(Module().predict_step))
    predicting = calls_per_step(Module.predict_step, lambda: trainer().predict(Module(), batches()))

    assert predicting == plain + 2


def test_callbacks_that_override_no_hook_cost_evaluation_no_call() -> None:
    def validate(*callbacks: Callback) -> int:
        run = trainer(*callbacks)
        return calls_per_step(Module.validation_step, lambda: run.validate(Module(), batches(), verbose=False))

    assert validate(*(Idle() for _ in range(CALLBACKS))) == validate()
