"""Training by hand gives the weights of a plain PyTorch loop, bit for bit; every plain loop is written out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule

from .recording import Batch, make_trainer

EPOCHS, BATCHES, NOISE = 3, 5, 3


class Networks(nn.Module):
    """A generator of points in the plane, and a discriminator that tells them from real ones."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(9)
            self.generator = nn.Sequential(nn.Linear(NOISE, 8), nn.Tanh(), nn.Linear(8, 2))
            self.discriminator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def data(dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    """Real points with the noise that goes with each."""
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(4 * BATCHES, 2, generator=generator) * 0.5 + 2
    noise = torch.randn(4 * BATCHES, NOISE, generator=generator)
    return DataLoader(TensorDataset(real.to(dtype), noise.to(dtype)), batch_size=4)


def discriminator_loss(nets: Any, real: Tensor, noise: Tensor) -> Tensor:
    fake = nets.generator(noise).detach()
    on_real, on_fake = nets.discriminator(real), nets.discriminator(fake)
    ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_fake)
    with_logits = functional.binary_cross_entropy_with_logits
    return with_logits(on_real, ones) + with_logits(on_fake, zeros)


def generator_loss(nets: Any, noise: Tensor) -> Tensor:
    judged = nets.discriminator(nets.generator(noise))
    return functional.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))


def optimizers_of(nets: Any) -> tuple[Adam, Adam]:
    betas = (0.5, 0.9)
    return Adam(nets.generator.parameters(), lr=0.02, betas=betas), Adam(
        nets.discriminator.parameters(), lr=0.05, betas=betas
    )


Step = Callable[["Gan", Batch, int], Any]


class Gan(LightningModule):
    """Both networks, with a training step that each test brings along."""

    def __init__(self, step: Step, configure: Callable[[Any], Any] = optimizers_of) -> None:
        super().__init__()
        self.automatic_optimization = False
        nets = Networks()
        self.generator, self.discriminator = nets.generator, nets.discriminator
        self.step, self.configure = step, configure

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return self.step(self, batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return self.configure(self)


def trained(folder: Path, step: Step, configure: Callable[[Any], Any] = optimizers_of, **arguments: Any) -> Gan:
    module = Gan(step, configure)
    make_trainer(folder, [], max_epochs=EPOCHS, **arguments).fit(module, data())
    return module


def assert_same(module: Gan, plain: Networks) -> None:
    """Every weight is equal bit for bit, and training did move each one."""
    found, start = module.state_dict(), Networks().state_dict()
    for name, weight in plain.state_dict().items():
        assert torch.equal(found[name], weight), name
        assert not torch.equal(weight.float(), start[name]), name


def plain_gan() -> Networks:
    """The loop of the tutorials: the discriminator first, then the generator."""
    nets = Networks()
    generator, discriminator = optimizers_of(nets)
    for _ in range(EPOCHS):
        for real, noise in data():
            discriminator.zero_grad()
            discriminator_loss(nets, real, noise).backward()
            discriminator.step()
            generator.zero_grad()
            generator_loss(nets, noise).backward()
            generator.step()
    return nets


def in_turn(module: Gan, batch: Batch, batch_idx: int) -> None:
    real, noise = batch
    generator, discriminator = module.optimizers()
    discriminator.zero_grad()
    module.manual_backward(discriminator_loss(module, real, noise))
    discriminator.step()
    generator.zero_grad()
    module.manual_backward(generator_loss(module, noise))
    generator.step()


def with_turns(module: Gan, batch: Batch, batch_idx: int) -> None:
    real, noise = batch
    generator, discriminator = module.optimizers()
    with module.toggled_optimizer(discriminator):
        discriminator.zero_grad()
        module.manual_backward(discriminator_loss(module, real, noise))
        discriminator.step()
    module.toggle_optimizer(generator)
    generator.zero_grad()
    module.manual_backward(generator_loss(module, noise))
    generator.step()
    module.untoggle_optimizer(generator)


def with_closures(module: Gan, batch: Batch, batch_idx: int) -> None:
    """As the reference shows for advanced users: closures inside `toggle_model`, which return nothing."""
    real, noise = batch
    generator, discriminator = module.optimizers()

    def judge() -> None:
        loss = discriminator_loss(module, real, noise)
        discriminator.zero_grad()
        module.manual_backward(loss)

    def make() -> None:
        loss = generator_loss(module, noise)
        generator.zero_grad()
        module.manual_backward(loss)

    with discriminator.toggle_model(sync_grad=True):
        discriminator.step(closure=judge)
    with generator.toggle_model(sync_grad=False):
        generator.step(closure=make)


@pytest.mark.parametrize("step", [in_turn, with_turns, with_closures])
def test_two_adversaries_train_like_the_plain_loop(step: Step, tmp_path: Path) -> None:
    module = Gan(step)
    trainer = make_trainer(tmp_path, [], max_epochs=EPOCHS)
    trainer.fit(module, data())
    assert_same(module, plain_gan())
    assert trainer.global_step == 2 * EPOCHS * BATCHES


@pytest.mark.parametrize(
    "returned",
    [None, {}, {"loss": torch.tensor(1.0)}, {"losses": [1, 2]}, torch.tensor(1.0)],
    ids=["nothing", "an empty dict", "a dict with a loss", "a dict without", "a tensor"],
)
def test_what_training_step_returns_changes_nothing_of_the_training(returned: Any, tmp_path: Path) -> None:
    def step(module: Gan, batch: Batch, batch_idx: int) -> Any:
        in_turn(module, batch, batch_idx)
        return returned

    assert_same(trained(tmp_path, step), plain_gan())


def test_one_of_two_optimizers_may_step_more_often_than_the_other(tmp_path: Path) -> None:
    nets = Networks()
    generator, discriminator = optimizers_of(nets)
    for _ in range(EPOCHS):
        for index, (real, noise) in enumerate(data()):
            for _ in range(2):
                discriminator.zero_grad()
                discriminator_loss(nets, real, noise).backward()
                discriminator.step()
            if index % 3 == 2:
                generator.zero_grad()
                generator_loss(nets, noise).backward()
                generator.step()

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        real, noise = batch
        generator, discriminator = module.optimizers()
        for _ in range(2):
            discriminator.zero_grad()
            module.manual_backward(discriminator_loss(module, real, noise))
            discriminator.step()
        if batch_idx % 3 == 2:
            generator.zero_grad()
            module.manual_backward(generator_loss(module, noise))
            generator.step()

    module = Gan(step)
    trainer = make_trainer(tmp_path, [], max_epochs=EPOCHS)
    trainer.fit(module, data())
    assert_same(module, nets)
    assert trainer.global_step == EPOCHS * (2 * BATCHES + 1)


def test_gradients_may_be_accumulated_by_hand_with_a_last_window_of_its_real_size(tmp_path: Path) -> None:
    nets = Networks()
    _, discriminator = optimizers_of(nets)
    for _ in range(EPOCHS):
        batches = list(data())
        for members in (batches[0:2], batches[2:4], batches[4:5]):
            discriminator.zero_grad()
            for real, noise in members:
                (discriminator_loss(nets, real, noise) / len(members)).backward()
            discriminator.step()

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        real, noise = batch
        _, discriminator = module.optimizers()
        alone = batch_idx == 4
        if batch_idx % 2 == 0:
            discriminator.zero_grad()
        module.manual_backward(discriminator_loss(module, real, noise) / (1 if alone else 2))
        if batch_idx % 2 == 1 or module.trainer.is_last_batch:
            discriminator.step()

    module = Gan(step)
    trainer = make_trainer(tmp_path, [], max_epochs=EPOCHS)
    trainer.fit(module, data())
    assert trainer.global_step == 3 * EPOCHS
    for name, weight in nets.discriminator.state_dict().items():
        assert torch.equal(module.discriminator.state_dict()[name], weight), name


def test_clipping_by_hand_gives_the_gradients_of_the_plain_loop(tmp_path: Path) -> None:
    nets = Networks()
    generator, discriminator = optimizers_of(nets)
    norms: list[float] = []
    for _ in range(EPOCHS):
        for real, noise in data():
            discriminator.zero_grad()
            discriminator_loss(nets, real, noise).backward()
            norms.append(nn.utils.clip_grad_norm_(nets.discriminator.parameters(), 0.5).item())
            discriminator.step()
            generator.zero_grad()
            generator_loss(nets, noise).backward()
            nn.utils.clip_grad_value_(nets.generator.parameters(), 0.01)
            generator.step()
    assert max(norms) > 0.5

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        real, noise = batch
        generator, discriminator = module.optimizers()
        discriminator.zero_grad()
        module.manual_backward(discriminator_loss(module, real, noise))
        module.clip_gradients(discriminator, gradient_clip_val=0.5)
        discriminator.step()
        generator.zero_grad()
        module.manual_backward(generator_loss(module, noise))
        module.clip_gradients(generator.optimizer, 0.01, gradient_clip_algorithm="Value")
        generator.step()

    assert_same(trained(tmp_path, step), nets)


# Schedulers, stepped by hand


def test_schedulers_that_are_stepped_by_hand_move_like_those_of_the_plain_loop(tmp_path: Path) -> None:
    nets = Networks()
    generator, discriminator = optimizers_of(nets)
    by_epoch = ExponentialLR(generator, 0.5)
    by_step = OneCycleLR(discriminator, max_lr=0.1, total_steps=EPOCHS * BATCHES)
    for _ in range(EPOCHS):
        for real, noise in data():
            discriminator.zero_grad()
            discriminator_loss(nets, real, noise).backward()
            discriminator.step()
            by_step.step()
            generator.zero_grad()
            generator_loss(nets, noise).backward()
            generator.step()
        by_epoch.step()

    def configure(module: Any) -> Any:
        generator, discriminator = optimizers_of(module)
        return [generator, discriminator], [
            ExponentialLR(generator, 0.5),
            {"scheduler": OneCycleLR(discriminator, max_lr=0.1, total_steps=EPOCHS * BATCHES), "name": "cycle"},
        ]

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        by_epoch, by_step = module.lr_schedulers()
        real, noise = batch
        generator, discriminator = module.optimizers()
        discriminator.zero_grad()
        module.manual_backward(discriminator_loss(module, real, noise))
        discriminator.step()
        by_step.step()
        generator.zero_grad()
        module.manual_backward(generator_loss(module, noise))
        generator.step()
        if module.trainer.is_last_batch:
            by_epoch.step()

    assert_same(trained(tmp_path, step, configure), nets)


def test_a_plateau_scheduler_needs_no_monitor_where_the_module_steps_it(tmp_path: Path) -> None:
    def configure(module: Any) -> Any:
        _, discriminator = optimizers_of(module)
        plateau = ReduceLROnPlateau(discriminator, factor=0.5, patience=0)
        return {"optimizer": discriminator, "lr_scheduler": plateau}

    rates: list[float] = []

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        optimizer = module.optimizers()
        optimizer.zero_grad()
        module.manual_backward(discriminator_loss(module, *batch))
        optimizer.step()
        module.lr_schedulers().step(1.0)  # never better than the first
        rates.append(optimizer.param_groups[0]["lr"])

    trained(tmp_path, step, configure)
    assert rates == [0.05 * 0.5**index for index in range(EPOCHS * BATCHES)]


def test_a_scheduler_of_no_library_may_be_stepped_by_hand(tmp_path: Path) -> None:
    class Halves:
        def __init__(self, optimizer: Optimizer) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            for group in self.optimizer.param_groups:
                group["lr"] /= 2

        def state_dict(self) -> dict[str, Any]:
            return {}

    def configure(module: Any) -> Any:
        _, discriminator = optimizers_of(module)
        return [discriminator], [Halves(discriminator)]

    def step(module: Gan, batch: Batch, batch_idx: int) -> None:
        module.lr_schedulers().step()

    module = trained(tmp_path, step, configure)
    assert module.optimizers().param_groups[0]["lr"] == 0.05 / 2 ** (EPOCHS * BATCHES)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"interval": "step"}, "'interval' of a scheduler"),
        ({"frequency": 2, "strict": False}, "'frequency', 'strict' of a scheduler"),
        ({"monitor": "loss"}, "'monitor' of a scheduler"),
    ],
)
def test_when_the_trainer_would_step_a_scheduler_is_warned_of_as_it_steps_none(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    def configure(module: Any) -> Any:
        _, discriminator = optimizers_of(module)
        return {"optimizer": discriminator, "lr_scheduler": {"scheduler": ExponentialLR(discriminator, 0.5)} | settings}

    with pytest.warns(UserWarning, match=rf"Gan\.configure_optimizers.*self\.lr_schedulers\(\)\.step\(\).*{said}"):
        trained(tmp_path, lambda module, batch, batch_idx: None, configure)


# Precision


def test_training_by_hand_in_double_precision_equals_the_plain_loop_in_double_precision(tmp_path: Path) -> None:
    nets = Networks().double()
    generator, discriminator = optimizers_of(nets)
    for _ in range(EPOCHS):
        for real, noise in data(torch.float64):
            discriminator.zero_grad()
            discriminator_loss(nets, real, noise).backward()
            discriminator.step()
            generator.zero_grad()
            generator_loss(nets, noise).backward()
            generator.step()

    # The batches are floats, and are converted on their way in.
    module = trained(tmp_path, in_turn, precision="64-true")
    assert {weight.dtype for weight in module.parameters()} == {torch.float64}
    assert_same(module, nets)


def test_training_by_hand_with_bfloat16_autocast_equals_the_plain_loop_with_it(tmp_path: Path) -> None:
    # Without autocast's cache of converted weights: the weights change inside of a training step.
    nets = Networks()
    generator, discriminator = optimizers_of(nets)
    for _ in range(EPOCHS):
        for real, noise in data():
            discriminator.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
                loss = discriminator_loss(nets, real, noise)
            loss.backward()
            discriminator.step()
            generator.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
                loss = generator_loss(nets, noise)
            loss.backward()
            generator.step()

    module = trained(tmp_path, in_turn, precision="bf16-mixed")
    assert_same(module, nets)
    exact = plain_gan()
    assert not torch.equal(module.generator[0].weight, exact.generator[0].weight)  # type: ignore[arg-type]


def test_under_autocast_the_second_loss_of_a_step_is_computed_with_the_weights_of_the_first_ones_update(
    tmp_path: Path,
) -> None:
    layer = nn.Linear(1, 1, bias=False)
    losses: list[float] = []

    class Twice(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.layer = layer
            nn.init.constant_(layer.weight, 4.0)

        def training_step(self, batch: Batch, batch_idx: int) -> None:
            optimizer = self.optimizers()
            for _ in range(2):
                loss = self.layer(torch.ones(1, 1)).sum()
                losses.append(loss.item())
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    make_trainer(tmp_path, [], max_epochs=1, limit_train_batches=1, precision="bf16-mixed").fit(Twice(), data())
    assert losses == [4.0, 3.0]
