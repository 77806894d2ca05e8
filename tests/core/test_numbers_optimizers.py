"""What configure_optimizers may return, and what a module may do itself around an optimizer step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError

EPOCHS = 3


def network() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(3, 1)


def loader(batches: int = 4) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2 * batches, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True) + 1.0), batch_size=2)


def loss_of(net: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return functional.mse_loss(net(x), y)


class Regression(LightningModule):
    """A regression whose optimizers are made by the function it is given."""

    def __init__(self, configure: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.net = network()
        self.configure = configure
        self.steps = 0
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps += 1
        loss = loss_of(self.net, batch)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return self.configure(self.net)


def sgd(net: nn.Module, lr: float = 0.1) -> SGD:
    return SGD(net.parameters(), lr=lr)


def trainer(root: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "max_epochs": EPOCHS,
    }
    return Trainer(**(settings | arguments))


def assert_equal(trained: nn.Module, plain: nn.Module) -> None:
    """Every weight is equal bit for bit, and training did move each one."""
    for name, untrained in network().state_dict().items():
        assert torch.equal(trained.state_dict()[name], plain.state_dict()[name]), name
        assert not torch.equal(trained.state_dict()[name], untrained), name


def in_two_lists(net: nn.Module) -> Any:
    optimizer = sgd(net)
    return [optimizer], [ExponentialLR(optimizer, gamma=0.5)]


def in_two_lists_with_a_config(net: nn.Module) -> Any:
    optimizer = sgd(net)
    return [optimizer], [{"scheduler": ExponentialLR(optimizer, gamma=0.5), "interval": "epoch"}]


def in_a_dictionary(net: nn.Module) -> Any:
    optimizer = sgd(net)
    return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, gamma=0.5)}


def in_a_dictionary_with_a_config(net: nn.Module) -> Any:
    optimizer = sgd(net)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": ExponentialLR(optimizer, gamma=0.5)}}


def in_a_list_of_dictionaries(net: nn.Module) -> Any:
    return [in_a_dictionary(net)]


def in_a_tuple_of_dictionaries(net: nn.Module) -> Any:
    return (in_a_dictionary_with_a_config(net),)


@pytest.mark.parametrize(
    "configure",
    [
        sgd,
        lambda net: [sgd(net)],
        lambda net: (sgd(net),),
        lambda net: ([sgd(net)], []),
        lambda net: {"optimizer": sgd(net)},
        lambda net: ({"optimizer": sgd(net)},),
    ],
    ids=["alone", "list", "tuple", "two lists", "dictionary", "tuple of dictionaries"],
)
def test_every_form_of_one_optimizer_trains_like_a_plain_loop(
    configure: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    net = network()
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    model = Regression(configure)
    fitted = trainer(tmp_path)
    fitted.fit(model, loader())

    assert_equal(model.net, net)
    assert [type(optimizer) for optimizer in fitted.optimizers] == [SGD]
    assert fitted.lr_scheduler_configs == []


@pytest.mark.parametrize(
    "configure",
    [
        in_two_lists,
        in_two_lists_with_a_config,
        in_a_dictionary,
        in_a_dictionary_with_a_config,
        in_a_list_of_dictionaries,
        in_a_tuple_of_dictionaries,
    ],
)
def test_every_form_of_a_scheduler_trains_like_a_plain_loop(
    configure: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = ExponentialLR(optimizer, gamma=0.5)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
        scheduler.step()

    model = Regression(configure)
    fitted = trainer(tmp_path)
    fitted.fit(model, loader())

    assert_equal(model.net, net)
    assert fitted.optimizers[0].param_groups[0]["lr"] == 0.1 * 0.5**EPOCHS
    (config,) = fitted.lr_scheduler_configs
    assert isinstance(config.scheduler, ExponentialLR)
    assert (config.interval, config.frequency, config.monitor, config.strict, config.name) == (
        "epoch",
        1,
        None,
        True,
        None,
    )


def test_the_keys_of_a_scheduler_config_are_kept(tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        config = {
            "scheduler": ReduceLROnPlateau(optimizer),
            "interval": "step",
            "frequency": 4,
            "monitor": "absent",
            "strict": False,
            "name": "slope",
        }
        return {"optimizer": optimizer, "lr_scheduler": config}

    fitted = trainer(tmp_path, max_epochs=1, limit_train_batches=2)
    fitted.fit(Regression(configure), loader())

    (config,) = fitted.lr_scheduler_configs
    assert isinstance(config.scheduler, ReduceLROnPlateau)
    assert (config.interval, config.frequency, config.monitor, config.strict, config.name) == (
        "step",
        4,
        "absent",
        False,
        "slope",
    )


def test_no_optimizer_runs_every_step_and_changes_nothing(tmp_path: Path) -> None:
    model = Regression(lambda net: None)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    with pytest.warns(UserWarning, match="configure_optimizers.*None"):
        trainer(tmp_path).fit(model, loader())

    assert model.steps == EPOCHS * 4
    for name, weight in before.items():
        assert torch.equal(model.state_dict()[name], weight)


@pytest.mark.parametrize(
    "configure",
    [
        lambda net: [sgd(net), sgd(net)],
        lambda net: (sgd(net), sgd(net)),
        lambda net: ([sgd(net), sgd(net)], []),
        lambda net: ({"optimizer": sgd(net)}, {"optimizer": sgd(net)}),
        lambda net: [in_a_dictionary(net), in_a_dictionary(net)],
    ],
    ids=["list", "tuple", "two lists", "tuple of dictionaries", "list of dictionaries"],
)
def test_several_optimizers_are_refused_under_automatic_optimization(
    configure: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    model = Regression(configure)

    with pytest.raises(MisconfigurationError, match=r"(?s)2 optimizers.*automatic_optimization"):
        trainer(tmp_path).fit(model, loader())

    assert model.steps == 0


@pytest.mark.parametrize(
    "returned",
    [42, "adam", ["adam"], {"lr_scheduler": None}],
    ids=["number", "name", "list of names", "dictionary without optimizer"],
)
def test_what_is_no_optimizer_is_refused(returned: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="configure_optimizers"):
        trainer(tmp_path).fit(Regression(lambda net: returned), loader())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "scheduler"),
        ({"scheduler": "cosine"}, "'cosine'.*was given as a scheduler"),
        ({"interval": "batch"}, "batch.*(epoch.*step|step.*epoch)"),
        ({"frequency": 0}, "frequency"),
        ({"frequency": 1.5}, "frequency"),
    ],
    ids=["no scheduler", "a name", "unknown interval", "frequency zero", "frequency with a fraction"],
)
def test_a_wrong_scheduler_config_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        known = {"scheduler": StepLR(optimizer, step_size=1)} if config else {}
        return {"optimizer": optimizer, "lr_scheduler": known | config}

    with pytest.raises(MisconfigurationError, match=f"(?s){message}"):
        trainer(tmp_path).fit(Regression(configure), loader())


def test_a_plateau_scheduler_without_a_monitor_is_refused(tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer)}

    with pytest.raises(MisconfigurationError, match=r"(?s)ReduceLROnPlateau.*monitor"):
        trainer(tmp_path).fit(Regression(configure), loader())


def test_a_monitor_that_was_never_logged_is_an_error_that_lists_what_was(tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer), "monitor": "lost"}

    with pytest.raises(MisconfigurationError, match=r"'lost' was not logged.*'loss'"):
        trainer(tmp_path).fit(Regression(configure), loader())


def test_a_monitor_that_was_never_logged_is_a_warning_when_not_strict(tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        config = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "lost", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    fitted = trainer(tmp_path)
    with pytest.warns(Warning, match="lost"):
        fitted.fit(Regression(configure), loader())

    assert fitted.global_step == EPOCHS * 4
    assert fitted.optimizers[0].param_groups[0]["lr"] == 0.1


def test_the_optimizer_step_of_the_module_gets_epoch_batch_optimizer_and_closure(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for epoch in range(EPOCHS):
        for index, batch in enumerate(loader()):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + 4 * epoch + index)
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    class Warming(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            self.seen.append((epoch, batch_idx))
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + self.trainer.global_step)
            optimizer.step(closure=optimizer_closure)

    model = Warming(sgd)
    fitted = trainer(tmp_path)
    fitted.fit(model, loader())

    assert model.seen == [(epoch, index) for epoch in range(EPOCHS) for index in range(4)]
    assert fitted.global_step == EPOCHS * 4
    assert_equal(model.net, net)


def test_an_optimizer_step_that_only_runs_the_closure_is_no_step(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            if index % 2 == 0:
                optimizer.step()

    class EverySecond(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2 == 0:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

        def on_after_optimizer_step(self, optimizer: Optimizer) -> None:
            self.seen.append(self.trainer.global_step)

    model = EverySecond(sgd)
    fitted = trainer(tmp_path)
    fitted.fit(model, loader())

    assert model.steps == EPOCHS * 4
    assert fitted.global_step == EPOCHS * 2
    assert model.seen == [1, 2, 3, 4, 5, 6]
    assert_equal(model.net, net)


def test_the_module_may_clear_gradients_itself_once_per_window(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        data = list(loader(5))
        for members in (data[0:2], data[2:4], data[4:5]):
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            optimizer.step()

    class Zeroing(Regression):
        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
            self.seen.append((epoch, batch_idx))
            optimizer.zero_grad(set_to_none=False)

    model = Zeroing(sgd)
    trainer(tmp_path, accumulate_grad_batches=2).fit(model, loader(5))

    assert model.seen == [(epoch, index) for epoch in range(EPOCHS) for index in (0, 2, 4)]
    assert_equal(model.net, net)


def test_the_module_may_clip_gradients_itself(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            nn.utils.clip_grad_value_([net.weight], 0.125)
            optimizer.step()

    class Clipping(Regression):
        def configure_gradient_clipping(
            self,
            optimizer: Optimizer,
            gradient_clip_val: int | float | None = None,
            gradient_clip_algorithm: str | None = None,
        ) -> None:
            self.seen.append((gradient_clip_val, gradient_clip_algorithm))
            nn.utils.clip_grad_value_([self.net.weight], 0.125)

    model = Clipping(sgd)
    trainer(tmp_path, gradient_clip_val=3.0, gradient_clip_algorithm="value").fit(model, loader())

    assert model.seen == [(3.0, "value")] * (EPOCHS * 4)
    assert_equal(model.net, net)


def test_clip_gradients_does_from_the_module_what_the_trainer_would_do(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    norms: list[float] = []
    for epoch in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            if epoch > 0:
                norms.append(nn.utils.clip_grad_norm_(net.parameters(), 0.5).item())
            optimizer.step()
    assert max(norms) > 0.5

    class LateClipping(Regression):
        def configure_gradient_clipping(
            self,
            optimizer: Optimizer,
            gradient_clip_val: int | float | None = None,
            gradient_clip_algorithm: str | None = None,
        ) -> None:
            if self.current_epoch > 0:
                self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")

    model = LateClipping(sgd)
    trainer(tmp_path).fit(model, loader())

    assert_equal(model.net, net)


def test_the_module_may_move_its_schedulers_itself(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    scheduler = ExponentialLR(optimizer, gamma=0.5)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
        scheduler.step()
        scheduler.step()

    class Doubling(Regression):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            self.seen.append(metric)
            scheduler.step()
            scheduler.step()

    model = Doubling(in_a_dictionary)
    trainer(tmp_path).fit(model, loader())

    assert model.seen == [None] * EPOCHS
    assert_equal(model.net, net)


def test_lr_scheduler_step_gets_the_monitored_value(tmp_path: Path) -> None:
    net = network()
    means: list[float] = []
    for _ in range(EPOCHS):
        with torch.no_grad():
            means.append(sum(loss_of(net, batch).item() for batch in loader()) / 4)
        optimizer = sgd(net)
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    class Watching(Regression):
        def on_train_epoch_start(self) -> None:
            with torch.no_grad():
                self.mean = sum(loss_of(self.net, batch).item() for batch in loader()) / 4

        def on_train_epoch_end(self) -> None:
            self.log("mean", self.mean)

        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            self.seen.append(float(metric))
            scheduler.step(metric)

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        plateau = ReduceLROnPlateau(optimizer, patience=100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "mean"}}

    model = Watching(configure)
    trainer(tmp_path).fit(model, loader())

    assert model.seen == pytest.approx(means, rel=1e-6)
    assert_equal(model.net, net)


def test_the_module_may_run_backward_itself(tmp_path: Path) -> None:
    net = network()
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            (loss_of(net, batch) * 3.0).backward()
            optimizer.step()

    class Tripling(Regression):
        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            (loss * 3.0).backward()

    model = Tripling(sgd)
    trainer(tmp_path).fit(model, loader())

    assert_equal(model.net, net)


def test_backward_gets_the_loss_divided_by_the_window(tmp_path: Path) -> None:
    class Watching(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = loss_of(self.net, batch)
            self.returned = loss.item()
            return loss

        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.seen.append((self.returned, loss.item()))
            loss.backward()

    model = Watching(sgd)
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(model, loader(5))

    assert [returned / backed for returned, backed in model.seen] == [2, 2, 2, 2, 1]
