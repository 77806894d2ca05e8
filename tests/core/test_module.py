"""A LightningModule by itself: without a trainer, after a run, copied, pickled, and where something is not defined."""

import copy
import inspect
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop.module.no_optimizer import NoOptimizer
from hookloop.optimizers import LightningOptimizer

from .recording import Batch, QuietModule, loader, make_trainer


class Small(LightningModule):
    """One layer, and nothing that a trainer asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(x)
        return answer


class Learns(Small):
    """The least that a fit needs."""

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self(batch[0]).pow(2).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Without a trainer


def test_a_module_is_a_torch_module() -> None:
    module = Small()
    assert isinstance(module, torch.nn.Module)
    assert module(torch.ones(3, 2)).shape == (3, 1)
    assert [name for name, _ in module.named_parameters()] == ["layer.weight", "layer.bias"]
    assert list(module.state_dict()) == ["layer.weight", "layer.bias"]
    assert [type(child) for child in module.children()] == [torch.nn.Linear]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("current_epoch", 0),
        ("global_step", 0),
        ("global_rank", 0),
        ("local_rank", 0),
        ("logger", None),
        ("loggers", ()),
        ("automatic_optimization", True),
        ("device", torch.device("cpu")),
        ("dtype", torch.float32),
    ],
)
def test_without_a_trainer_a_module_answers_what_can_be_answered(attribute: str, value: Any) -> None:
    assert getattr(Small(), attribute) == value


@pytest.mark.parametrize(
    "ask",
    [
        lambda module: module.trainer,
        lambda module: module.optimizers(),
        lambda module: module.lr_schedulers(),
        lambda module: module.clip_gradients(torch.optim.SGD(module.parameters(), lr=0.1), 1.0),
    ],
    ids=["trainer", "optimizers", "lr_schedulers", "clip_gradients"],
)
def test_without_a_trainer_the_rest_is_an_error_that_says_what_to_do(ask: Any) -> None:
    message = "Small is not attached to a Trainer. Pass it to fit, validate, test or predict first."
    with pytest.raises(HookloopError) as caught:
        ask(Small())
    assert str(caught.value) == message
    # nn.Module would turn an AttributeError into one about a missing attribute.
    assert not isinstance(caught.value, AttributeError)


def test_a_subclass_may_use_the_module_before_its_own_init_is_through() -> None:
    class Early(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            assert (self.current_epoch, self.global_step, self.device) == (0, 0, torch.device("cpu"))
            self.automatic_optimization = False

    assert Early().automatic_optimization is False
    assert Small().automatic_optimization is True


def test_log_without_a_trainer_warns_and_does_nothing_else() -> None:
    module = Small()
    message = r'self\.log\("loss", \.\.\.\) was called while no trainer is running this module or callback'
    with pytest.warns(UserWarning, match=message) as caught:
        module.log("loss", torch.tensor(1.0))
    assert len(caught) == 1
    # The warning points at the line that logs.
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="no trainer") as both:
        module.log_dict({"a": 1.0, "b": 2.0}, prog_bar=True)
    assert ['"a"' in str(both[0].message), '"b"' in str(both[1].message)] == [True, True]


def test_after_a_run_log_warns_again_in_modules_and_callbacks(tmp_path: Path) -> None:
    class Logs(Callback):
        pass

    module, callback = Learns(), Logs()
    make_trainer(tmp_path, [callback], max_epochs=1).fit(module, loader(1))
    for owner in (module, callback):
        with pytest.warns(UserWarning, match="while no trainer is running"):
            owner.log("loss", 1.0)


def test_steps_of_a_module_can_be_tried_without_a_trainer() -> None:
    class Tried(Learns):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss)
            self.print("step", batch_idx)
            return loss

    with pytest.warns(UserWarning, match="no trainer"):
        loss = Tried().training_step([torch.ones(3, 2)], 0)
    loss.backward()


def test_print_prints(capsys: pytest.CaptureFixture[str]) -> None:
    Small().print("loss", 3, sep=": ", end=".\n")
    assert capsys.readouterr().out == "loss: 3.\n"


def test_print_in_a_run_goes_through_the_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bar(Callback):
        family = "progress_bar"

        def __init__(self) -> None:
            self.lines: list[tuple[Any, ...]] = []

        def print(self, *args: Any, **kwargs: Any) -> None:
            self.lines.append((*args, kwargs))

    class Prints(Learns):
        def on_train_start(self) -> None:
            self.print("here", 1, sep="-")

    bar = Bar()
    make_trainer(tmp_path, [bar], max_epochs=1).fit(Prints(), loader(1))
    assert bar.lines == [("here", 1, {"sep": "-"})]
    assert capsys.readouterr().out == ""


# Device and dtype


class Buffered(LightningModule):
    """No parameter, one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1, dtype=torch.float64))


def test_device_and_dtype_are_those_of_the_first_parameter_or_buffer() -> None:
    assert (Small().double().dtype, Small().to("meta").device) == (torch.float64, torch.device("meta"))
    assert (Buffered().dtype, Buffered().to("meta").device) == (torch.float64, torch.device("meta"))


def test_a_module_without_any_tensor_is_on_the_cpu_in_the_default_dtype() -> None:
    module = LightningModule()
    assert (module.device, module.dtype) == (torch.device("cpu"), torch.get_default_dtype())


class StartsLazy(Learns):
    """Its layer gets its numbers in the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.LazyLinear(1)


def test_a_lazy_module_is_trained_and_has_its_numbers_after_the_first_step(tmp_path: Path) -> None:
    module = StartsLazy()
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 3)), batch_size=2)

    Trainer(max_epochs=1, registered_callbacks=False, logger=False, default_root_dir=tmp_path).fit(module, batches)

    assert module.layer.weight.shape == (1, 3)
    assert module.trainer.global_step == 2


def test_device_and_dtype_cannot_be_set_but_follow_the_weights() -> None:
    module = Small()
    for name in ("device", "dtype"):
        with pytest.raises(AttributeError):
            setattr(module, name, None)
    assert module.half().dtype == torch.float16


# What is not defined


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        (lambda module: module.training_step(1, 0), r"training_step\(self, batch, batch_idx\)"),
        (lambda module: module.validation_step(1, 0), r"validation_step\(self, batch, batch_idx\)"),
        (lambda module: module.test_step(1, 0), r"test_step\(self, batch, batch_idx\)"),
        (lambda module: module.configure_optimizers(), r"configure_optimizers\(self\)"),
    ],
    ids=["training_step", "validation_step", "test_step", "configure_optimizers"],
)
def test_what_is_not_defined_says_what_to_define_when_it_is_called(call: Any, signature: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"Small does not define {signature}. Define it to use this entry"):
        call(Small())


@pytest.mark.parametrize(
    ("entry", "missing"),
    [("fit", "training_step"), ("validate", "validation_step"), ("test", "test_step")],
)
def test_an_entry_point_names_the_step_that_it_needs_before_anything_runs(
    entry: str, missing: str, tmp_path: Path
) -> None:
    class Notices(Small):
        def setup(self, stage: str) -> None:
            raise AssertionError("set up in vain")

    with pytest.raises(MisconfigurationError, match=rf"Notices does not define {missing}\(\), which trainer.{entry}\("):
        getattr(make_trainer(tmp_path, []), entry)(Notices(), loader(1))


def test_a_fit_needs_configure_optimizers_too(tmp_path: Path) -> None:
    class NoOptimizer(Small):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self(batch[0]).mean()
            return loss

    message = r"NoOptimizer does not define configure_optimizers\(\), which trainer\.fit\(\) needs"
    with pytest.raises(MisconfigurationError, match=message):
        make_trainer(tmp_path, []).fit(NoOptimizer(), loader(1))


def test_predict_calls_forward_where_nothing_else_is_defined(tmp_path: Path) -> None:
    class Doubles(LightningModule):
        def forward(self, batch: Batch) -> torch.Tensor:
            return 2 * batch[0]

    predictions = make_trainer(tmp_path, []).predict(Doubles(), loader(2))
    assert predictions is not None
    expected = [2 * batch[0] for batch in loader(2)]
    assert all(torch.equal(one, other) for one, other in zip(predictions, expected, strict=True))


@pytest.mark.parametrize(
    "method",
    [
        *("configure_model", "prepare_data", "on_fit_start", "on_train_end", "on_validation_epoch_end"),
        *("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"),
    ],
)
def test_everything_else_is_there_and_does_nothing(method: str) -> None:
    assert getattr(Small(), method)() is None


def test_the_defaults_of_the_other_methods_do_what_they_say() -> None:
    module = Small()
    assert module.configure_callbacks() == []
    batch = [torch.ones(1)]
    assert module.on_before_batch_transfer(batch, 0) is batch
    assert module.on_after_batch_transfer(batch, 0) is batch
    assert module.transfer_batch_to_device(batch, torch.device("meta"), 0)[0].device == torch.device("meta")
    loss = module(torch.ones(1, 2)).sum()
    module.backward(loss)
    assert module.layer.bias.grad is not None
    module.on_validation_model_zero_grad()
    assert module.layer.bias.grad is None
    for stage in ("validation", "test", "predict"):
        getattr(module, f"on_{stage}_model_eval")()
        assert not module.layer.training
        getattr(module, f"on_{stage}_model_train")()
        assert module.layer.training


# As Lightning's users know them, from the reference.
ARGUMENTS_OF_LOG = {
    "name": inspect.Parameter.empty,
    "value": inspect.Parameter.empty,
    "prog_bar": False,
    "logger": None,
    "on_step": None,
    "on_epoch": None,
    "reduce_fx": "mean",
    "enable_graph": False,
    "sync_dist": False,
    "sync_dist_group": None,
    "add_dataloader_idx": True,
    "batch_size": None,
    "metric_attribute": None,
    "rank_zero_only": False,
}


@pytest.mark.parametrize("owner", [LightningModule, Callback])
def test_log_takes_the_arguments_that_users_know(owner: type[LightningModule] | type[Callback]) -> None:
    parameters = list(inspect.signature(owner.log).parameters.values())[1:]
    assert [(each.name, each.default) for each in parameters] == list(ARGUMENTS_OF_LOG.items())


@pytest.mark.parametrize("owner", [LightningModule, Callback])
@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
@pytest.mark.parametrize("point", ["start", "end"])
def test_hooks_of_evaluated_batches_belong_to_the_first_loader_unless_told(owner: type, stage: str, point: str) -> None:
    signature = inspect.signature(getattr(owner, f"on_{stage}_batch_{point}"))
    assert signature.parameters["dataloader_idx"].default == 0


def test_a_scheduler_without_a_metric_is_stepped_without_an_argument() -> None:
    class Counts:
        steps = 0

        def step(self) -> None:
            self.steps += 1

    scheduler = Counts()
    Small().lr_scheduler_step(scheduler, None)
    assert scheduler.steps == 1


def test_the_default_scheduler_step_hands_on_the_metric_where_there_is_one() -> None:
    module = Small()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    step = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    module.lr_scheduler_step(step, None)
    assert optimizer.param_groups[0]["lr"] == 0.5
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    module.lr_scheduler_step(plateau, torch.tensor(1.0))
    module.lr_scheduler_step(plateau, torch.tensor(2.0))
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert plateau.best == 1.0


# During and after a run


def test_a_module_knows_its_trainer_during_a_run_and_after_it(tmp_path: Path) -> None:
    class Looks(Learns):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            self.seen.append((self.trainer, self.current_epoch, self.global_step, self.logger, list(self.loggers)))
            return super().training_step(batch, batch_idx)

    module = Looks()
    trainer = make_trainer(tmp_path, [], max_epochs=2)
    trainer.fit(module, loader(2))
    assert module.seen == [(trainer, epoch, 2 * epoch + batch, None, []) for epoch in (0, 1) for batch in (0, 1)]
    assert module.trainer is trainer
    assert (module.current_epoch, module.global_step) == (2, 4)


def test_a_module_has_the_loggers_of_its_trainer(tmp_path: Path) -> None:
    one, two = CSVLogger(tmp_path / "one"), CSVLogger(tmp_path / "two")
    module = Learns()
    trainer = Trainer(
        logger=[one, two], max_epochs=1, default_root_dir=tmp_path, registered_callbacks=False, accelerator="cpu"
    )
    trainer.fit(module, loader(1))
    assert module.logger is one
    assert list(module.loggers) == [one, two]


def test_a_module_can_be_given_to_another_trainer_and_let_go(tmp_path: Path) -> None:
    module = Learns()
    first, second = make_trainer(tmp_path, [], max_epochs=1), make_trainer(tmp_path, [], max_epochs=1)
    first.fit(module, loader(1))
    second.fit(module, loader(1))
    assert module.trainer is second
    module.trainer = None
    with pytest.raises(HookloopError, match="not attached"):
        _ = module.trainer


def test_one_optimizer_or_scheduler_comes_alone_and_several_in_a_list(tmp_path: Path) -> None:
    class Chooses(Learns):
        count = 1

        def configure_optimizers(self) -> Any:
            self.automatic_optimization = False
            optimizers = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(self.count)]
            return optimizers, [torch.optim.lr_scheduler.StepLR(optimizer, 1) for optimizer in optimizers]

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            return None

    module = Chooses()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module, loader(1))
    wrapped = module.optimizers()
    assert isinstance(wrapped, LightningOptimizer)
    assert wrapped.optimizer is trainer.optimizers[0]
    assert module.optimizers(use_pl_optimizer=False) is trainer.optimizers[0]
    assert module.lr_schedulers() is trainer.lr_scheduler_configs[0].scheduler

    module.count, trainer.max_epochs = 2, 2
    trainer.fit(module, loader(1))
    assert [one.optimizer for one in module.optimizers()] == trainer.optimizers
    assert module.optimizers(use_pl_optimizer=False) == trainer.optimizers
    assert module.lr_schedulers() == [config.scheduler for config in trainer.lr_scheduler_configs]
    assert len(trainer.optimizers) == 2

    module.count, trainer.max_epochs = 0, 3
    trainer.fit(module, loader(1))
    assert isinstance(module.optimizers(), NoOptimizer)
    assert isinstance(module.optimizers(use_pl_optimizer=False), NoOptimizer)
    assert module.lr_schedulers() is None


# Copies


def copies() -> list[Any]:
    return [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda module: pickle.loads(pickle.dumps(module)), id="pickle"),
        pytest.param(saved_and_loaded, id="torch.save"),
    ]


def saved_and_loaded(module: LightningModule) -> LightningModule:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: LightningModule = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("make", copies())
def test_a_copy_of_an_attached_module_is_attached_to_nobody(make: Any, tmp_path: Path) -> None:
    module = Learns()
    module.automatic_optimization = True
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module, loader(1))
    copied = make(module)
    assert type(copied) is Learns
    with pytest.raises(HookloopError, match="Learns is not attached to a Trainer"):
        _ = copied.trainer
    assert (copied.global_step, module.global_step) == (0, 1)
    assert module.trainer is trainer
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), copied.parameters(), strict=True))
    # The copy can be trained, and then has a trainer of its own.
    other = make_trainer(tmp_path, [], max_epochs=1)
    other.fit(copied, loader(1))
    assert (copied.trainer, module.trainer) == (other, trainer)


@pytest.mark.parametrize("make", copies())
def test_a_copy_made_inside_a_hook_records_nothing_and_leaves_the_run_alone(make: Any, tmp_path: Path) -> None:
    class Copies(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, *args: Any) -> None:
            copied = make(pl_module)
            with pytest.warns(UserWarning, match="no trainer is running"):
                copied.log("from the copy", 1.0)
            pl_module.log("from the module", 2.0)

    trainer = make_trainer(tmp_path, [Copies()], max_epochs=1)
    trainer.fit(Learns(), loader(2))
    assert trainer.callback_metrics == {"from the module": torch.tensor(2.0)}


def test_a_pickle_of_an_attached_module_is_no_larger_than_before_the_run(tmp_path: Path) -> None:
    class Heavy(Callback):
        def __init__(self) -> None:
            self.ballast = bytes(10**6)

    module = Learns()
    before = len(pickle.dumps(module))
    make_trainer(tmp_path, [Heavy()], max_epochs=1).fit(module, loader(1))
    # Gradients are not pickled with weights; flags like `training` are there in both.
    assert len(pickle.dumps(module)) < before + 1000


class KeepsItsOptimizer(Learns):
    """As modules that optimize by themselves often do."""

    kept: Any = None

    def on_train_start(self) -> None:
        self.kept = self.optimizers()


@pytest.mark.parametrize("make", copies()[1:3])
def test_a_module_that_keeps_its_optimizer_can_be_copied(make: Any, tmp_path: Path) -> None:
    module = KeepsItsOptimizer()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module, loader(1))
    copied = make(module)
    assert isinstance(copied.kept, LightningOptimizer)
    assert copied.kept.param_groups[0]["lr"] == 0.1
    assert copied.kept.optimizer is not module.kept.optimizer
    assert copied.kept.param_groups[0]["params"][0] is copied.layer.weight
    # Its steps would be those of no run.
    with pytest.raises(MisconfigurationError, match=r"of a SGD is a copy and belongs to no run.*its \.optimizer"):
        copied.kept.step()
    copied(torch.ones(1, 2)).sum().backward()
    before = copied.layer.weight.detach().clone()
    copied.kept.optimizer.step()
    assert torch.allclose(copied.layer.weight, before - 0.1)
    assert trainer.global_step == 1


def test_a_fit_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_trainer(tmp_path, [], max_epochs=1).fit(QuietModule())
