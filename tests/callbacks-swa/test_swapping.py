"""Which weights are in the module: averages where they are asked for, and the live ones whatever happens."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from averaging import BATCHES, Net, data, same, weights
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.callback import HOOKS
from hookloop_callbacks_swa import EMAWeightAveraging, StochasticWeightAveraging

Make = Callable[..., Trainer]


class Follows(Callback):
    """Keeps the live weights after each step, and averages them in its own way: average += (live - average) / 2."""

    order = Order.FIRST

    def __init__(self) -> None:
        self.live: dict[str, Tensor] = {}
        self.average: dict[str, Tensor] = {}

    def on_before_zero_grad(self, trainer: Any, pl_module: LightningModule, optimizer: Any) -> None:
        self.live = weights(pl_module)  # the batch norm has seen the batch

    def on_after_optimizer_step(self, trainer: Any, pl_module: LightningModule, optimizer: Any) -> None:
        self.live = weights(pl_module)
        if not self.average:
            self.average = weights(pl_module)
        for name, one in pl_module.named_parameters():
            self.average[name] = torch.lerp(self.average[name], one.detach(), 0.5)

    def first(self) -> Tensor:
        return self.average["net.0.weight"]


def ema(**arguments: Any) -> EMAWeightAveraging:
    return EMAWeightAveraging(decay=0.5, use_buffers=False, **arguments)


class Watches(Callback):
    """Writes down which weights are in the module: "live", "average", or neither."""

    order = Order.LAST

    def __init__(self, follows: Follows, *hooks: str) -> None:
        self.follows = follows
        self.seen: list[tuple[str, str]] = []
        for hook in hooks:
            setattr(self, hook, self.watch(hook))

    def watch(self, hook: str) -> Callable[..., None]:
        def look(trainer: Any, pl_module: Net, *arguments: Any) -> None:
            now = pl_module.first_weight
            kinds = {"live": self.follows.live, "average": self.follows.average}
            names = [kind for kind, state in kinds.items() if state and torch.equal(state["net.0.weight"], now)]
            self.seen.append((hook, " ".join(names)))

        return look


def test_validation_inside_a_fit_sees_averages_and_everything_else_the_live_weights(trainer: Make) -> None:
    follows = Follows()
    watches = Watches(
        follows, "on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end",
        "on_train_epoch_end", "on_train_end", "on_fit_end",
    )  # fmt: skip

    trainer(ema(), follows, watches, max_epochs=2).fit(Net(), data(2), data(1))

    first = [("on_train_batch_end", "live average"), ("on_train_batch_end", "live")]
    later = [("on_train_batch_end", "live")] * 2
    validation = [("on_validation_start", "average"), ("on_validation_batch_end", "average")]
    end = [("on_validation_end", "live"), ("on_train_epoch_end", "live")]
    assert watches.seen == [
        *(first + validation + end),
        *(later + validation + end),
        ("on_train_end", "live"),
        ("on_fit_end", "average"),
    ]


def test_without_swap_for_eval_validation_sees_the_live_weights(trainer: Make) -> None:
    follows = Follows()
    watches = Watches(follows, "on_validation_batch_end")

    trainer(ema(swap_for_eval=False), follows, watches, max_epochs=2).fit(Net(), data(2), data(1))

    assert watches.seen == [("on_validation_batch_end", "live")] * 2


def test_until_something_was_averaged_the_live_weights_are_used_everywhere(trainer: Make) -> None:
    alone, module = Net(), Net()
    trainer(max_epochs=2).fit(alone, data(), data(1))

    run = trainer(ema(update_starting_at_epoch=7), max_epochs=2, num_sanity_val_steps=1)
    run.fit(module, data(), data(1))
    initial = Net().first_weight

    assert same(weights(module), weights(alone))
    assert torch.equal(module.seen[0], initial)  # the sanity check
    assert torch.equal(module.seen[-1], alone.seen[-1])


def test_training_is_the_same_as_without_averages(trainer: Make) -> None:
    for callback in (ema(), StochasticWeightAveraging(swa_epoch_start=1, swap_for_eval=True)):
        alone, follows = Follows(), Follows()
        trainer(alone).fit(Net(), data(), data(1))
        trainer(callback, follows, val_check_interval=2).fit(Net(), data(), data(1))
        assert same(alone.live, follows.live)


def test_after_a_fit_the_averages_are_in_the_module_for_whoever_evaluates_it(trainer: Make) -> None:
    follows, module = Follows(), Net()
    run = trainer(ema(), follows)
    run.fit(module, data())

    run.test(module, data(1), verbose=False)
    run.validate(module, data(1), verbose=False)
    predicted = run.predict(module, data(1))

    assert predicted is not None
    for seen in (*module.seen, *predicted, module.first_weight):
        assert torch.equal(seen, follows.first())


def test_a_second_fit_goes_on_with_the_live_weights(trainer: Make) -> None:
    whole, in_two, follows = Net(), Net(), Follows()
    trainer(ema(), follows, max_epochs=4).fit(whole, data())

    run = trainer(ema(), max_epochs=2)
    run.fit(in_two, data())
    run.max_epochs = 4
    optimizer = run.optimizers[0].state_dict()

    class Again(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.optimizers[0].load_state_dict(optimizer)

    run.callbacks.append(Again())
    run.fit(in_two, data())

    assert same(weights(in_two), weights(whole))


def test_weights_that_a_user_loads_after_a_fit_are_not_replaced(trainer: Make) -> None:
    module, other = Net(), weights(Net())
    run = trainer(ema(), max_epochs=2)
    run.fit(module, data())

    module.load_state_dict(other)
    run.save_checkpoint(f"{run.default_root_dir}/own.ckpt")
    saved = torch.load(f"{run.default_root_dir}/own.ckpt")
    begins = Watches(Follows(), "on_train_start")
    first: list[Tensor] = []
    setattr(begins, "on_train_start", lambda trainer, pl_module: first.append(pl_module.first_weight.clone()))  # noqa: B010
    run.callbacks.append(begins)
    run.max_epochs = 3
    run.fit(module, data())

    assert same(saved["state_dict"], other)
    assert "weights" not in saved
    assert torch.equal(first[0], other["net.0.weight"])


def test_a_callback_that_is_used_for_another_module_begins_anew(trainer: Make) -> None:
    callback = ema()
    first, second, alone = Net(), Net(), Net()
    trainer(callback).fit(first, data())
    kept = weights(first)

    trainer(callback, max_epochs=2).fit(second, data())
    trainer(ema(), max_epochs=2).fit(alone, data())

    assert same(weights(second), weights(alone))
    assert same(weights(first), kept)


# Whatever happens


class PlantedError(Exception):
    pass


def planted(hook: str, order: Order, raised: BaseException) -> Callback:
    """Raises in a hook; in those that come with each batch and epoch of training, not before something was averaged."""

    def plant(self: Callback, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        often = hook.startswith(("on_train_batch", "on_train_epoch", "on_before", "on_after"))
        if trainer.global_step >= 2 or not often:
            raise raised

    made: Callback = type("Planted", (Callback,), {"order": order, hook: plant})()
    return made


class SavesInValidation(Callback):
    order = Order.LAST

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        trainer.save_checkpoint(f"{trainer.default_root_dir}/inside.ckpt")


IN_A_FIT = [
    hook
    for hook in HOOKS
    if not {"test", "predict"} & set(hook.split("_"))
    and hook not in ("state_dict", "load_state_dict", "on_load_checkpoint", "on_preemption", "on_exception")
]
AVERAGING: dict[str, Callable[[], Callback]] = {
    "EMA": ema,
    "SWA": lambda: StochasticWeightAveraging(swa_epoch_start=1, swap_for_eval=True),
}


@pytest.mark.parametrize("kind", AVERAGING)
@pytest.mark.parametrize("order", [Order.NORMAL, Order.LAST])
@pytest.mark.parametrize("hook", IN_A_FIT)
def test_an_exception_in_any_hook_of_a_fit_leaves_the_live_weights_bit_for_bit(
    hook: str, order: Order, kind: str, trainer: Make
) -> None:
    follows, module = Follows(), Net()
    follows.live = weights(module)
    callbacks = [AVERAGING[kind](), follows, planted(hook, order, PlantedError(hook)), SavesInValidation()]
    run = trainer(*callbacks, max_epochs=2, num_sanity_val_steps=1)

    with pytest.raises(PlantedError):
        run.fit(module, data(), data(1))

    assert same(weights(module), follows.live)


@pytest.mark.parametrize("order", [Order.NORMAL, Order.LAST])
@pytest.mark.parametrize("hook", [hook for hook in HOOKS if {"test", "predict"} & set(hook.split("_"))])
def test_an_exception_in_any_hook_of_an_evaluation_leaves_the_live_weights_bit_for_bit(
    hook: str, order: Order, trainer: Make, tmp_path: Any
) -> None:
    follows, path, module = Follows(), tmp_path / "fitted.ckpt", Net()
    fitted = trainer(ema(), follows)
    fitted.fit(Net(), data())
    fitted.save_checkpoint(path)
    run = trainer(ema(), planted(hook, order, PlantedError(hook)))

    with pytest.raises(PlantedError):
        run.test(module, data(1), ckpt_path=path) if "test" in hook else run.predict(module, data(1), ckpt_path=path)

    if "batch_end" in hook and "test" in hook:
        assert torch.equal(module.seen[0], follows.first())  # it was in there
    assert same(weights(module), follows.live)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3)])
def test_ctrl_c_in_the_middle_of_a_validation_leaves_the_live_weights(raised: BaseException, trainer: Make) -> None:
    follows, module = Follows(), Net()

    with pytest.raises(type(raised)):
        trainer(ema(), follows, planted("on_validation_batch_end", Order.NORMAL, raised)).fit(module, data(), data(2))

    assert same(weights(module), follows.live)


def test_sigterm_in_a_validation_leaves_the_live_weights(trainer: Make) -> None:
    class Asks(Callback):
        def on_validation_batch_start(self, *arguments: Any) -> None:
            signal.raise_signal(signal.SIGTERM)

    follows, module = Follows(), Net()

    with pytest.raises(SystemExit):
        trainer(ema(), follows, Asks()).fit(module, data(), data(2))

    assert same(weights(module), follows.live)


def test_an_exchange_that_is_cut_short_anywhere_is_finished_from_where_it_was(
    trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, callback = Net(), ema()
    run = trainer(callback, max_epochs=1)
    run.fit(module, data())
    average = weights(module)
    held = callback._weights
    assert held is not None
    held.take_out()
    live = weights(module)
    copy, copies = Tensor.copy_, 2 * len(held.entries)

    for cut in range(copies):
        done = 0

        def interrupted(self: Tensor, *arguments: Any, cut: int = cut) -> Tensor:
            nonlocal done
            done += 1
            result = copy(self, *arguments)
            if done == cut + 1:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "copy_", interrupted)
            with pytest.raises(KeyboardInterrupt):
                held.put_in()
        held.take_out()
        assert same(weights(module), live)
        held.put_in()
        assert same(weights(module), average)
        held.take_out()
    assert copies == 2 * 6
    assert callback.n_averaged == BATCHES
