"""Training gives the weights of a plain PyTorch loop, bit for bit.

Every plain loop is written out in its test, so that what the core must compute can be read beside what it computes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hookloop import Callback, LightningModule, Trainer

EPOCHS = 3
ACCUMULATED = [(5, 1), (5, 2), (5, 3), (5, 4), (5, 7), (6, 3)]


def network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def samples(count: int, seed: int = 3) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    return TensorDataset(x, x.pow(2).sum(dim=1, keepdim=True) + torch.randn(count, 1, generator=generator))


def loader(batches: int = 5, seed: int = 3) -> DataLoader[Any]:
    """Batches of four samples; the last one has two."""
    return DataLoader(samples(4 * batches - 2, seed), batch_size=4)


def loss_of(net: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return functional.mse_loss(net(x), y)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def adamw(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)


class Regression(LightningModule):
    """A regression whose optimizers are made by the function it is given."""

    def __init__(self, configure: Callable[[nn.Module], Any] = sgd, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = network() if net is None else net
        self.configure = configure
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = loss_of(self.net, batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", loss_of(self.net, batch))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        return self.configure(self.net)


def trainer(root: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**(settings | arguments))


def assert_equal(trained: nn.Module, plain: nn.Module) -> None:
    """Every weight is equal bit for bit, and training did move each one."""
    found, expected = trained.state_dict(), plain.state_dict()
    assert found.keys() == expected.keys()
    for name, untrained in network().state_dict().items():
        assert torch.equal(found[name], expected[name]), name
        assert not torch.equal(found[name], untrained), name


@pytest.mark.parametrize("configure", [sgd, adamw])
def test_training_equals_a_plain_loop(configure: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path) -> None:
    net = network()
    optimizer = configure(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    model = Regression(configure)
    trainer(tmp_path, max_epochs=EPOCHS).fit(model, loader())

    assert_equal(model.net, net)


def test_training_that_ends_inside_an_epoch_equals_a_plain_loop_of_as_many_steps(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    batches = [*loader(), *loader()][:7]
    for batch in batches:
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        optimizer.step()

    model = Regression()
    trainer(tmp_path, max_steps=7).fit(model, loader())

    assert_equal(model.net, net)


@pytest.mark.parametrize(("batches", "window"), ACCUMULATED)
def test_accumulation_divides_each_loss_by_the_real_size_of_its_window(
    batches: int, window: int, tmp_path: Path
) -> None:
    net = network()
    optimizer = adamw(net)
    for _ in range(EPOCHS):
        data = list(loader(batches))
        for start in range(0, batches, window):
            members = data[start : start + window]
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            optimizer.step()

    model = Regression(adamw)
    fitted = trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=window)
    fitted.fit(model, loader(batches))

    assert_equal(model.net, net)
    assert fitted.global_step == EPOCHS * -(-batches // window)


def test_a_limited_epoch_ends_with_a_window_of_its_real_size(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    data = list(loader())
    for _ in range(EPOCHS):
        for members in (data[0:2], data[2:3]):
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            optimizer.step()

    model = Regression()
    trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=2, limit_train_batches=3).fit(model, loader())

    assert_equal(model.net, net)


def test_the_gradient_of_an_uneven_last_window_is_not_scaled_down(tmp_path: Path) -> None:
    class Constant(LightningModule):
        """Its loss is its weight, so that each gradient is exactly one."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.gradients: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.weight * 1.0

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            assert self.weight.grad is not None
            self.gradients.append(self.weight.grad.item())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    model = Constant()
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=4).fit(model, loader(6))

    # Four quarters and two halves are exact in binary.
    assert model.gradients == [1.0, 1.0]
    assert model.weight.item() == -1.0


@pytest.mark.parametrize("interval", [1, 3])
def test_validation_inside_a_window_does_not_disturb_its_gradients(interval: int, tmp_path: Path) -> None:
    net = network()
    optimizer = adamw(net)
    for _ in range(EPOCHS):
        data = list(loader(6))
        for start in (0, 2, 4):
            optimizer.zero_grad()
            for batch in data[start : start + 2]:
                (loss_of(net, batch) / 2).backward()
            optimizer.step()

    class Validated(Regression):
        validations = 0

        def on_validation_start(self) -> None:
            self.validations += 1

    model = Validated(adamw)
    trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=2, val_check_interval=interval).fit(
        model, loader(6), loader(2, seed=4)
    )

    assert model.validations == EPOCHS * 6 // interval
    assert_equal(model.net, net)


@pytest.mark.parametrize("batches_per_step", [1, 2])
@pytest.mark.parametrize("algorithm", [None, "norm"])
def test_clipping_by_norm_equals_a_plain_loop(algorithm: str | None, batches_per_step: int, tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    norms: list[float] = []
    for _ in range(EPOCHS):
        data = list(loader())
        for start in range(0, 5, batches_per_step):
            members = data[start : start + batches_per_step]
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), 6.0).item())
            optimizer.step()
    assert min(norms) < 6.0 < max(norms), "the data must make clipping act on some steps and not on others"

    model = Regression()
    trainer(
        tmp_path,
        max_epochs=EPOCHS,
        accumulate_grad_batches=batches_per_step,
        gradient_clip_val=6.0,
        gradient_clip_algorithm=algorithm,
    ).fit(model, loader())

    assert_equal(model.net, net)


def test_clipping_by_value_equals_a_plain_loop(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    largest: list[float] = []
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            largest.append(max(p.grad.abs().max().item() for p in net.parameters() if p.grad is not None))
            nn.utils.clip_grad_value_(net.parameters(), 0.25)
            optimizer.step()
    assert max(largest) > 0.25

    model = Regression()
    trainer(tmp_path, max_epochs=EPOCHS, gradient_clip_val=0.25, gradient_clip_algorithm="value").fit(model, loader())

    assert_equal(model.net, net)


def test_gradients_are_whole_before_the_optimizer_step_hook_and_clipped_after_the_step(tmp_path: Path) -> None:
    class Norms(Callback):
        def __init__(self) -> None:
            self.before: list[float] = []
            self.after: list[float] = []

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
            self.before.append(norm_of(pl_module))

        def on_after_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
            self.after.append(norm_of(pl_module))

    def norm_of(module: nn.Module) -> float:
        return float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm())

    net = network()
    optimizer = sgd(net)
    expected: list[float] = []
    for batch in loader():
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        expected.append(norm_of(net))
        nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        optimizer.step()

    norms = Norms()
    trainer(tmp_path, max_epochs=1, gradient_clip_val=0.01, callbacks=[norms]).fit(Regression(), loader())

    assert min(expected) > 0.01
    assert norms.before == expected
    assert norms.after == pytest.approx([0.01] * 5, rel=1e-3)


@pytest.mark.parametrize(("window", "frequency"), [(1, 1), (2, 1), (1, 2), (1, 3)])
def test_a_step_scheduler_moves_after_every_nth_optimizer_step(window: int, frequency: int, tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
    rates: list[float] = []
    steps = 0
    for _ in range(EPOCHS):
        data = list(loader(6))
        for start in range(0, 6, window):
            members = data[start : start + window]
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            steps += 1
            if steps % frequency == 0:
                scheduler.step()

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": frequency}]

    model = Regression(configure)
    trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=window).fit(model, loader(6))

    assert model.rates == rates
    assert len(set(rates)) == -(-len(rates) // frequency)
    assert_equal(model.net, net)


def test_a_step_scheduler_moves_after_the_uneven_last_window_too(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
    for _ in range(EPOCHS):
        data = list(loader())
        for members in (data[0:2], data[2:4], data[4:5]):
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            optimizer.step()
            scheduler.step()

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    model = Regression(configure)
    trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=2).fit(model, loader())

    assert_equal(model.net, net)


def test_one_cycle_over_the_estimated_steps_equals_a_plain_loop(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
    momenta: list[float] = []
    for _ in range(EPOCHS):
        data = list(loader())
        for members in (data[0:2], data[2:4], data[4:5]):
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            momenta.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            scheduler.step()
    assert len(set(momenta)) > 2

    class Cycled(Regression):
        def configure_optimizers(self) -> Any:
            optimizer = sgd(self.net)
            steps = self.trainer.estimated_stepping_batches
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=int(steps))
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    model = Cycled()
    fitted = trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=2)
    fitted.fit(model, loader())

    assert fitted.estimated_stepping_batches == 9
    assert_equal(model.net, net)


@pytest.mark.parametrize("frequency", [1, 2])
def test_an_epoch_scheduler_moves_at_the_end_of_every_nth_epoch(frequency: int, tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    rates: list[float] = []
    for epoch in range(5):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        if (epoch + 1) % frequency == 0:
            scheduler.step()

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "frequency": frequency}}

    model = Regression(configure)
    trainer(tmp_path, max_epochs=5).fit(model, loader())

    assert model.rates == rates
    assert_equal(model.net, net)


def test_several_schedulers_move_each_at_its_own_interval(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    by_step = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.9)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
            by_step.step()
        by_epoch.step()

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        by_step = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.9)
        return [optimizer], [by_epoch, {"scheduler": by_step, "interval": "step"}]

    model = Regression(configure)
    trainer(tmp_path, max_epochs=EPOCHS).fit(model, loader())

    assert_equal(model.net, net)


def plateau(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.2)


def test_a_plateau_scheduler_follows_the_validation_loss_of_each_epoch(tmp_path: Path) -> None:
    validation = list(loader(3, seed=4))
    net = network()
    optimizer = sgd(net)
    scheduler = plateau(optimizer)
    rates: list[float] = []
    for _ in range(8):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        with torch.no_grad():
            total = sum(loss_of(net, batch).item() * len(batch[0]) for batch in validation)
        scheduler.step(total / sum(len(batch[0]) for batch in validation))
    assert 2 < len(set(rates)) < 8, "the data must make the rate fall in some epochs and not in others"

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        return {"optimizer": optimizer, "lr_scheduler": plateau(optimizer), "monitor": "val_loss"}

    model = Regression(configure)
    trainer(tmp_path, max_epochs=8).fit(model, loader(), loader(3, seed=4))

    assert model.rates == rates
    assert_equal(model.net, net)


def test_a_plateau_scheduler_follows_the_training_loss_of_each_epoch(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = plateau(optimizer)
    rates: list[float] = []
    for _ in range(8):
        total = 0.0
        for batch in loader():
            optimizer.zero_grad()
            loss = loss_of(net, batch)
            loss.backward()
            total += loss.item() * len(batch[0])
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        scheduler.step(total / 18)
    assert 2 < len(set(rates)) < 8

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        return [optimizer], [{"scheduler": plateau(optimizer), "monitor": "loss_epoch"}]

    model = Regression(configure)
    trainer(tmp_path, max_epochs=8).fit(model, loader())

    assert model.rates == rates
    assert_equal(model.net, net)


@pytest.mark.parametrize("window", [1, 2])
def test_a_plateau_scheduler_of_interval_step_follows_the_loss_of_each_stepping_batch(
    window: int, tmp_path: Path
) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = plateau(optimizer)
    rates: list[float] = []
    for _ in range(EPOCHS):
        data = list(loader())
        for start in range(0, 5, window):
            members = data[start : start + window]
            optimizer.zero_grad()
            losses = [loss_of(net, batch) for batch in members]
            for loss in losses:
                (loss / len(members)).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(losses[-1].item())
    assert len(set(rates)) > 2

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        config = {"scheduler": plateau(optimizer), "interval": "step", "monitor": "loss_step"}
        return {"optimizer": optimizer, "lr_scheduler": config}

    model = Regression(configure)
    trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=window).fit(model, loader())

    assert model.rates == rates
    assert_equal(model.net, net)


def test_the_rate_seen_after_an_optimizer_step_is_the_one_it_used(tmp_path: Path) -> None:
    class Rates(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, float]] = []

        def on_after_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
            self.seen.append((trainer.global_step, optimizer.param_groups[0]["lr"]))

    def configure(net: nn.Module) -> Any:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    rates = Rates()
    trainer(tmp_path, max_epochs=1, callbacks=[rates]).fit(Regression(configure), loader())

    assert rates.seen == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625), (5, 0.03125)]


def noisy_network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 1))


def test_a_seeded_run_with_dropout_and_shuffling_equals_the_plain_loop_with_that_seed(tmp_path: Path) -> None:
    net = noisy_network()
    optimizer = sgd(net)
    data = DataLoader(samples(18), batch_size=4, shuffle=True)
    torch.manual_seed(11)
    for _ in range(EPOCHS):
        for batch in data:
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    model = Regression(net=noisy_network())
    data = DataLoader(samples(18), batch_size=4, shuffle=True)
    torch.manual_seed(11)
    trainer(tmp_path, max_epochs=EPOCHS).fit(model, data)

    for name, weight in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], weight), name


def test_the_sanity_check_and_deterministic_validation_do_not_change_the_random_numbers_of_training(
    tmp_path: Path,
) -> None:
    def own_generator(batches: int, seed: int) -> DataLoader[Any]:
        # A loader without a generator of its own draws a base seed from the global one whenever it is iterated.
        data = samples(4 * batches - 2, seed)
        return DataLoader(data, batch_size=4, generator=torch.Generator().manual_seed(seed))

    net = noisy_network()
    optimizer = sgd(net)
    torch.manual_seed(11)
    for _ in range(EPOCHS):
        for batch in own_generator(5, 3):
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    class Drawing(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.sanity_checking:
                torch.rand(3)

    model = Drawing(net=noisy_network())
    torch.manual_seed(11)
    trainer(tmp_path, max_epochs=EPOCHS, num_sanity_val_steps=2).fit(model, own_generator(5, 3), own_generator(2, 4))

    for name, weight in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], weight), name


class Stream(IterableDataset[Any]):
    """The samples of `samples`, one after the other, without a length."""

    def __init__(self, count: int) -> None:
        self.data = samples(count)

    def __iter__(self) -> Iterator[Any]:
        return (self.data[i] for i in range(len(self.data)))


def by_a_window_of_unknown_size(members: list[Any], window: int, net: nn.Module) -> None:
    """What can be done while nobody knows where the data ends: each loss is divided by the window's full size, and if
    the data ended before it was full, its gradients are multiplied by what that was too much."""
    for batch in members:
        (loss_of(net, batch) / window).backward()
    if len(members) < window:
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter.grad *= window / len(members)


@pytest.mark.parametrize("configure", [sgd, adamw])
@pytest.mark.parametrize(("batches", "window"), ACCUMULATED)
def test_accumulation_over_a_stream_scales_the_last_window_by_its_real_size(
    batches: int, window: int, configure: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path
) -> None:
    net, known = network(), network()
    optimizer, optimizer_of_known = configure(net), configure(known)
    for _ in range(EPOCHS):
        data = list(loader(batches))
        for start in range(0, batches, window):
            members = data[start : start + window]
            optimizer.zero_grad()
            by_a_window_of_unknown_size(members, window, net)
            optimizer.step()
            optimizer_of_known.zero_grad()
            for batch in members:
                (loss_of(known, batch) / len(members)).backward()
            optimizer_of_known.step()

    model = Regression(configure)
    fitted = trainer(tmp_path, max_epochs=EPOCHS, accumulate_grad_batches=window)
    fitted.fit(model, DataLoader(Stream(4 * batches - 2), batch_size=4))

    assert fitted.global_step == EPOCHS * -(-batches // window)
    assert_equal(model.net, net)
    for name, weight in known.state_dict().items():
        # And that is what a loader with a length gives, but for rounding.
        torch.testing.assert_close(net.state_dict()[name], weight, rtol=1e-3, atol=1e-5)


def test_clipping_over_a_stream_sees_the_gradient_of_the_real_window(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    data = list(loader())
    for members in (data[0:4], data[4:5]):
        optimizer.zero_grad()
        by_a_window_of_unknown_size(members, 4, net)
        norm = nn.utils.clip_grad_norm_(net.parameters(), 5.0).item()
        optimizer.step()
    assert norm / 4 < 5.0 < norm, "a last window that is scaled down to a quarter must escape the clipping"

    model = Regression()
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=4, gradient_clip_val=5.0).fit(
        model, DataLoader(Stream(18), batch_size=4)
    )

    assert_equal(model.net, net)


def test_lbfgs_evaluates_its_closure_as_often_as_in_a_plain_loop(tmp_path: Path) -> None:
    def lbfgs(net: nn.Module) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(net.parameters(), lr=0.2, max_iter=4)

    net = network()
    optimizer = lbfgs(net)
    evaluations = 0
    for _ in range(EPOCHS):
        for batch in loader():

            def closure(batch: Any = batch) -> float:
                nonlocal evaluations
                evaluations += 1
                optimizer.zero_grad()
                loss = loss_of(net, batch)
                loss.backward()
                return loss.item()

            optimizer.step(closure)
    assert evaluations > 2 * 5 * EPOCHS

    class Counted(Regression):
        evaluations = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.evaluations += 1
            return loss_of(self.net, batch)

    model = Counted(lbfgs)
    fitted = trainer(tmp_path, max_epochs=EPOCHS)
    fitted.fit(model, loader())

    assert model.evaluations == evaluations
    assert fitted.global_step == 5 * EPOCHS
    assert_equal(model.net, net)


def test_lbfgs_is_clipped_in_every_evaluation(tmp_path: Path) -> None:
    def lbfgs(net: nn.Module) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(net.parameters(), lr=0.2, max_iter=3)

    net = network()
    optimizer = lbfgs(net)
    for batch in loader():

        def closure(batch: Any = batch) -> float:
            optimizer.zero_grad()
            loss = loss_of(net, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            return loss.item()

        optimizer.step(closure)

    model = Regression(lbfgs)
    trainer(tmp_path, max_epochs=1, gradient_clip_val=0.5).fit(model, loader())

    assert_equal(model.net, net)


def test_a_batch_whose_step_returns_none_leaves_the_weights_alone(tmp_path: Path) -> None:
    net = network()
    optimizer = adamw(net)
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            if index in (1, 4):
                continue
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    class Skipping(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx in (1, 4) else loss_of(self.net, batch)

    model = Skipping(adamw)
    with pytest.warns(UserWarning, match="training_step returned None"):
        trainer(tmp_path, max_epochs=EPOCHS).fit(model, loader())

    assert_equal(model.net, net)


def test_the_loss_may_be_returned_in_a_dictionary(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for batch in loader():
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        optimizer.step()

    class Wrapped(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": loss_of(self.net, batch), "size": len(batch[0])}

    model = Wrapped()
    trainer(tmp_path, max_epochs=1).fit(model, loader())

    assert_equal(model.net, net)


def test_frozen_parameters_stay_as_they_are(tmp_path: Path) -> None:
    net = network()
    frozen = {name: weight.clone() for name, weight in net[0].state_dict().items()}
    net[0].requires_grad_(False)
    head = torch.optim.SGD(net[2].parameters(), lr=0.05)
    for batch in loader():
        head.zero_grad()
        loss_of(net, batch).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        head.step()

    model = Regression(lambda net: torch.optim.SGD((p for p in net.parameters() if p.requires_grad), lr=0.05))
    first = model.net.get_submodule("0")
    first.requires_grad_(False)
    trainer(tmp_path, max_epochs=1, gradient_clip_val=0.5).fit(model, loader())

    for name, weight in frozen.items():
        assert torch.equal(first.state_dict()[name], weight)
    assert [p.requires_grad for p in model.net.parameters()] == [False, False, True, True]
    for name, weight in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], weight), name


def test_a_second_trainer_goes_on_from_the_weights_of_the_first(tmp_path: Path) -> None:
    net = network()
    for _ in range(2):
        optimizer = sgd(net)
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    model = Regression()
    for _ in range(2):
        trainer(tmp_path, max_epochs=1).fit(model, loader())

    assert_equal(model.net, net)
