"""automatic_optimization = False: training_step takes the optimizer steps, and each of them is the trainer's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.optimizers import LightningOptimizer
from hookloop.view import TrainerView

from .recording import Batch, RecordingCallback, Trace, make_trainer


def data(batches: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    return DataLoader(TensorDataset(torch.randn(4 * batches, 2, generator=generator)), batch_size=4)


class Two(LightningModule):
    """A generator and a critic that learn in turn, each with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.maker, self.critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        maker, critic = self.optimizers()
        turns(self, batch[0], maker, critic, self.clip)

    def clip(self, optimizer: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.5)

    def configure_optimizers(self) -> Any:
        return optimizers_of(self)


def optimizers_of(module: Two) -> list[Optimizer]:
    return [torch.optim.Adam(module.maker.parameters(), lr=0.1), torch.optim.SGD(module.critic.parameters(), lr=0.2)]


def turns(module: Two, x: torch.Tensor, maker: Any, critic: Any, clip: Callable[[Any], None]) -> None:
    """What one training step does: with the trainer's optimizers, and with torch's."""
    judged = module.critic(x).mean() - module.critic(module.maker(x).detach()).mean()
    critic.zero_grad()
    judged.backward()
    clip(critic)
    critic.step()
    made = module.critic(module.maker(x)).pow(2).mean()
    maker.zero_grad()
    made.backward()
    maker.step()


def test_two_optimizers_train_like_a_loop_that_is_written_out_bit_for_bit(tmp_path: Path) -> None:
    def clip(optimizer: Any) -> None:
        torch.nn.utils.clip_grad_norm_(plain.critic.parameters(), 0.5)

    plain = Two()
    maker, critic = optimizers_of(plain)
    for _ in range(3):
        for batch in data(4):
            turns(plain, batch[0], maker, critic, clip)

    module = Two()
    start = module.maker.weight.detach().clone(), module.critic.weight.detach().clone()
    make_trainer(tmp_path, [], max_epochs=3).fit(module, data(4))
    trained = list(module.parameters())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained, plain.parameters(), strict=True))
    assert not torch.equal(module.maker.weight, start[0])
    assert not torch.equal(module.critic.weight, start[1])


class Steps(Callback):
    """Writes down around every optimizer step whose it is and how many there were."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.note("before", trainer, optimizer)

    def on_after_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.note("after", trainer, optimizer)

    def note(self, name: str, trainer: TrainerView, optimizer: Optimizer) -> None:
        (index,) = [index for index, known in enumerate(trainer.optimizers) if known is optimizer]
        self.seen.append((name, index, trainer.global_step))


def test_every_step_counts_and_runs_its_hooks_once_with_torchs_optimizer(tmp_path: Path) -> None:
    steps = Steps()
    trainer = make_trainer(tmp_path, [steps], max_epochs=1)
    trainer.fit(Two(), data(2))
    # The critic, which is the second one, goes first.
    assert steps.seen == [
        *(("before", 1, 0), ("after", 1, 1), ("before", 0, 1), ("after", 0, 2)),
        *(("before", 1, 2), ("after", 1, 3), ("before", 0, 3), ("after", 0, 4)),
    ]
    assert trainer.global_step == 4


def test_hooks_around_automatic_optimization_do_not_run(tmp_path: Path) -> None:
    class Notices(Two):
        def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the module calls loss.backward() itself")

        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the module steps by itself")

        def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the module clears gradients itself")

        def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the module clips by itself")

    trace = Trace()
    make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=1).fit(Notices(), data(1))
    heard = trace.of("C")
    start, end = heard.index("on_train_batch_start"), heard.index("on_train_batch_end")
    step = ["on_before_optimizer_step", "on_after_optimizer_step"]
    assert heard[start + 1 : end] == [*step, *step]


def test_the_modules_own_step_hooks_run_too(tmp_path: Path) -> None:
    class Hears(Two):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[str] = []

        def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
            self.heard.append(f"before {type(optimizer).__name__} at {self.global_step}")

        def on_after_optimizer_step(self, optimizer: Optimizer) -> None:
            self.heard.append(f"after {type(optimizer).__name__} at {self.global_step}")

    module = Hears()
    make_trainer(tmp_path, [], max_epochs=1).fit(module, data(1))
    assert module.heard == ["before SGD at 0", "after SGD at 1", "before Adam at 1", "after Adam at 2"]


def test_torchs_own_optimizer_steps_without_the_trainer(tmp_path: Path) -> None:
    class Behind(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> None:
            maker, critic = self.optimizers(use_pl_optimizer=False)
            turns(self, batch[0], maker, critic, self.clip)

    steps, module, with_hooks = Steps(), Behind(), Two()
    trainer = make_trainer(tmp_path, [steps], max_epochs=1)
    trainer.fit(module, data(2))
    assert (steps.seen, trainer.global_step) == ([], 0)
    make_trainer(tmp_path, [], max_epochs=1).fit(with_hooks, data(2))
    assert torch.equal(module.maker.weight, with_hooks.maker.weight)


@pytest.mark.parametrize(("max_steps", "batches", "steps"), [(4, 2, 4), (3, 2, 4), (1, 1, 2), (5, 3, 6)])
def test_training_ends_after_the_batch_that_reached_max_steps(
    max_steps: int, batches: int, steps: int, tmp_path: Path
) -> None:
    """A batch takes two steps here, so a limit may be passed by one; the next batch must not begin."""
    seen: list[int] = []

    class Counts(Two):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            seen.append(batch_idx)

    trainer = make_trainer(tmp_path, [], max_steps=max_steps)
    trainer.fit(Counts(), data(5))
    assert seen == list(range(batches))
    assert trainer.global_step == steps


# What training_step returns


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (None, {}),
        (torch.tensor(3.0), {"loss": 3.0}),
        ({"loss": torch.tensor(3.0), "note": "a"}, {"loss": 3.0, "note": "a"}),
        ({"note": [torch.tensor(2.0)]}, {"note": [2.0]}),
        ({}, {}),
    ],
    ids=["nothing", "a tensor", "a dict with a loss", "a dict without", "an empty dict"],
)
def test_callbacks_get_what_training_step_returned(returned: Any, outputs: dict[str, Any], tmp_path: Path) -> None:
    class Returns(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return returned

    class Takes(Callback):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, got: Any, *args: Any) -> None:
            self.got = got

    takes = Takes()
    make_trainer(tmp_path, [takes], max_epochs=1).fit(Returns(), data(1))
    assert takes.got == outputs


def test_what_callbacks_get_holds_no_graph(tmp_path: Path) -> None:
    class Returns(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            loss = self.critic(batch[0]).mean()
            return {"loss": loss, "parts": [loss * 2]}

    class Takes(Callback):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, got: Any, *args: Any) -> None:
            self.needs_grad = [got["loss"].requires_grad, got["parts"][0].requires_grad]

    takes = Takes()
    make_trainer(tmp_path, [takes], max_epochs=1).fit(Returns(), data(1))
    assert takes.needs_grad == [False, False]


@pytest.mark.parametrize("returned", [3, "loss", [torch.tensor(1.0)]], ids=["a number", "a string", "a list"])
def test_anything_else_is_refused_as_with_automatic_optimization(returned: Any, tmp_path: Path) -> None:
    class Returns(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return returned

    with pytest.raises(MisconfigurationError, match=r"Returns\.training_step returned .*Return"):
        make_trainer(tmp_path, [], max_epochs=1).fit(Returns(), data(1))


# What the trainer's arguments cannot do


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_clip_val": 0.5}, r"gradient_clip_val=0\.5 .*Two\.automatic_optimization is False"),
        ({"gradient_clip_val": 1}, "gradient_clip_val=1 works with automatic optimization"),
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val=1\.0 .*self\.clip_gradients\(optimizer, \.\.\.\)"),
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2 .*optimizer\.step\(\) every n batches"),
    ],
)
def test_arguments_for_automatic_optimization_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        make_trainer(tmp_path, [], max_epochs=1, **arguments).fit(Two(), data(1))


@pytest.mark.parametrize(
    "arguments", [{"gradient_clip_val": 0}, {"gradient_clip_val": 0.0}, {"accumulate_grad_batches": 1}]
)
def test_arguments_that_ask_for_nothing_are_fine(arguments: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], max_epochs=1, **arguments)
    trainer.fit(Two(), data(1))
    assert trainer.global_step == 2


def test_a_module_may_accumulate_by_itself(tmp_path: Path) -> None:
    class Accumulates(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> None:
            _, critic = self.optimizers()
            (self.critic(batch[0]).mean() / 2).backward()
            if batch_idx % 2 == 1:
                critic.step()
                critic.zero_grad()

    steps = Steps()
    trainer = make_trainer(tmp_path, [steps], max_epochs=1)
    trainer.fit(Accumulates(), data(5))
    assert trainer.global_step == 2
    assert [name for name, _, _ in steps.seen] == ["before", "after", "before", "after"]


def test_logging_goes_on_around_a_step(tmp_path: Path) -> None:
    class Logs(Two):
        def training_step(self, batch: Batch, batch_idx: int) -> None:
            self.log("before", float(batch_idx))
            super().training_step(batch, batch_idx)
            self.log("after", 10.0 + batch_idx, on_step=True, on_epoch=True)

        def on_after_optimizer_step(self, optimizer: Optimizer) -> None:
            self.log(f"step of {type(optimizer).__name__}", float(self.global_step))

    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(Logs(), data(3))
    expected = {"before": 2.0, "after": 11.0, "after_step": 12.0, "after_epoch": 11.0}
    expected |= {"step of SGD": 5.0, "step of Adam": 6.0}
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == expected


# The wrapped optimizer


def wrapped(optimizer: Optimizer) -> tuple[LightningOptimizer, list[Any]]:
    """An optimizer whose steps are written down and not taken."""
    steps: list[Any] = []

    def step(stepped: Optimizer, closure: Any) -> str:
        steps.append((stepped, closure))
        return "stepped"

    return LightningOptimizer(optimizer, step), steps


def test_a_wrapped_optimizer_hands_its_step_over_and_everything_else_on() -> None:
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    proxy, steps = wrapped(optimizer)

    def closure() -> float:
        return 2.5

    assert [proxy.step(), proxy.step(closure), proxy.step(closure=closure)] == ["stepped"] * 3
    assert [stepped is optimizer for stepped, _ in steps] == [True] * 3
    assert [given if given is None else given() for _, given in steps] == [None, 2.5, 2.5]
    assert proxy.optimizer is optimizer
    assert proxy.param_groups is optimizer.param_groups
    assert proxy.state is optimizer.state
    assert proxy.defaults["momentum"] == 0.9
    assert proxy.state_dict() == optimizer.state_dict()
    proxy.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.5})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    layer(torch.ones(1, 1)).sum().backward()
    assert layer.weight.grad is not None
    proxy.zero_grad()
    assert layer.weight.grad is None
    assert repr(proxy) == f"LightningOptimizer({optimizer!r})"


def test_a_wrapped_optimizer_lacks_what_the_optimizer_lacks() -> None:
    proxy, _ = wrapped(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1))
    assert not hasattr(proxy, "toggle_everything")
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'toggle_everything'"):
        _ = proxy.toggle_everything


@pytest.mark.parametrize("closure", [3, "loss", torch.tensor(1.0)], ids=["a number", "a string", "a loss"])
def test_a_closure_that_cannot_be_called_is_refused(closure: Any) -> None:
    proxy, steps = wrapped(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1))
    message = r"optimizer\.step\(closure=.*\): the closure must be a function that computes the gradients and returns"
    with pytest.raises(MisconfigurationError, match=message):
        proxy.step(closure)
    assert steps == []


class One(LightningModule):
    """One weight, and an optimizer of a kind that is chosen from outside."""

    def __init__(self, make: Callable[[Any], Optimizer], act: Callable[["One", Any], None]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.tensor(4.0))
        self.make, self.act = make, act

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.act(self, self.optimizers())

    def configure_optimizers(self) -> Optimizer:
        return self.make(self.parameters())


def sgd(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.25)


def test_a_step_with_a_closure_runs_it_between_the_hooks_and_returns_its_loss(tmp_path: Path) -> None:
    trace: list[Any] = []

    class Hears(Callback):
        def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
            assert isinstance(pl_module, One)
            trace.append(("before", pl_module.weight.grad))

        def on_after_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
            assert isinstance(pl_module, One)
            trace.append(("after", pl_module.weight.item()))

    def act(module: One, optimizer: Any) -> None:
        def closure() -> torch.Tensor:
            trace.append(("closure", torch.is_grad_enabled()))
            loss = module.weight.pow(2)
            optimizer.zero_grad()
            loss.backward()
            return loss

        with torch.no_grad():
            trace.append(("returned", optimizer.step(closure).item()))

    make_trainer(tmp_path, [Hears()], max_epochs=1).fit(One(sgd, act), data(1))
    # The gradient of w² at 4 is 8; a step of a quarter of it leads to 2.
    assert trace == [("closure", True), ("before", torch.tensor(8.0)), ("after", 2.0), ("returned", 16.0)]


def test_a_step_without_a_closure_returns_nothing_as_torchs_does(tmp_path: Path) -> None:
    returned: list[Any] = []

    def act(module: One, optimizer: Any) -> None:
        module.weight.pow(2).backward()
        returned.append(optimizer.step())

    make_trainer(tmp_path, [], max_epochs=1).fit(One(sgd, act), data(1))
    assert returned == [None]


def test_an_optimizer_that_evaluates_its_closure_often_takes_one_step(tmp_path: Path) -> None:
    evaluations: list[float] = []

    def lbfgs(parameters: Any) -> Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=5, tolerance_grad=0.0, tolerance_change=0.0)

    def act(module: One, optimizer: Any) -> None:
        def closure() -> torch.Tensor:
            evaluations.append(module.weight.item())
            optimizer.zero_grad()
            loss = (module.weight - 1).pow(4)
            loss.backward()
            return loss

        optimizer.step(closure)

    trainer = make_trainer(tmp_path, [], max_epochs=1)
    module = One(lbfgs, act)
    trainer.fit(module, data(1))
    assert trainer.global_step == 1
    assert evaluations[0] == 4.0

    plain = torch.nn.Parameter(torch.tensor(4.0))
    optimizer: Any = lbfgs([plain])
    plainly: list[float] = []

    def closure() -> torch.Tensor:
        plainly.append(plain.item())
        optimizer.zero_grad()
        loss = (plain - 1).pow(4)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert evaluations == plainly
    assert len(plainly) > 1
    assert torch.equal(module.weight, plain)


def test_an_optimizer_of_another_library_gets_the_closure(tmp_path: Path) -> None:
    class Lookahead(torch.optim.SGD):
        """Takes a look at the loss before its step and after it."""

        looks: list[float]

        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                self.looks = [closure().item()]
                super().step()
                self.looks.append(closure().item())
            return self.looks[-1]

    def act(module: One, optimizer: Any) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = module.weight.pow(2)
            loss.backward()
            return loss

        assert optimizer.step(closure) == 4.0

    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(One(lambda parameters: Lookahead(parameters, lr=0.25), act), data(1))
    optimizer = trainer.optimizers[0]
    assert isinstance(optimizer, Lookahead)
    assert optimizer.looks == [16.0, 4.0]
    assert trainer.global_step == 1


def test_without_optimizers_training_step_may_do_as_it_likes(tmp_path: Path) -> None:
    class ByHand(Two):
        def configure_optimizers(self) -> None:
            return None

        def training_step(self, batch: Batch, batch_idx: int) -> None:
            assert self.trainer.optimizers == []
            with torch.no_grad():
                self.maker.weight.add_(1.0)

    module = ByHand()
    before = module.maker.weight.detach().clone()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    with pytest.warns(UserWarning, match=r"ByHand\.configure_optimizers\(\) returned None"):
        trainer.fit(module, data(3))
    assert torch.equal(module.maker.weight, before + 1.0 + 1.0 + 1.0)
    assert trainer.global_step == 0


@pytest.mark.parametrize("wrapped", [True, False])
def test_without_optimizers_the_module_gets_one_that_does_nothing(tmp_path: Path, wrapped: bool) -> None:
    class ByHand(Two):
        def configure_optimizers(self) -> None:
            return None

        def training_step(self, batch: Batch, batch_idx: int) -> None:
            optimizer: Any = self.optimizers(use_pl_optimizer=wrapped)
            assert isinstance(self.optimizers(), Optimizer)
            assert optimizer.param_groups == []
            optimizer.zero_grad()
            self.manual_backward(self.maker(batch[0]).sum())
            assert optimizer.step() is None
            with torch.no_grad():
                assert optimizer.step(lambda: torch.ones(1, requires_grad=True) * 3).requires_grad

    module = ByHand()
    before = module.maker.weight.detach().clone()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    with pytest.warns(UserWarning, match=r"ByHand\.configure_optimizers\(\) returned None"):
        trainer.fit(module, data(3))

    assert torch.equal(module.maker.weight, before)
    assert trainer.optimizers == []
    assert trainer.global_step == 0
