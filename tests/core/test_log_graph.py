"""`log_graph`: the module's graph in TensorBoard's file, and a module and a training that are the same without it."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.loggers import Logger, TensorBoardLogger

from .event_files import accumulated, graph_nodes
from .fitting import Batch, Regression, loader, loss_of, trainer_in


class Drawn(Regression):
    def __init__(self) -> None:
        super().__init__()
        self.example_input_array: Any = torch.zeros(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.net(x)
        return answer


def draw(tmp_path: Path, module: nn.Module, input_array: Any = None) -> list[tuple[str, str]]:
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(module, input_array)
    logger.finalize("success")
    return graph_nodes(logger.log_dir)


def test_a_fit_draws_the_module_before_the_first_step(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    trainer_in(tmp_path, logger=logger, max_epochs=1).fit(Drawn(), loader())

    nodes = graph_nodes(logger.log_dir)
    assert {name.split("/")[1] for name, _ in nodes if name.startswith("Drawn/")} >= {"Sequential[net]"}
    layers = {name.split("/")[2] for name, _ in nodes if name.startswith("Drawn/Sequential[net]/")}
    assert layers == {"Linear[0]", "Tanh[1]", "Linear[2]"}
    assert [op for _, op in nodes].count("aten::linear") == 2
    events = accumulated(logger.log_dir)
    first_step = min(event.wall_time for event in events.Scalars("loss_epoch"))
    assert events.FirstEventTimestamp() <= first_step


def test_nobody_is_drawn_who_did_not_ask(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer_in(tmp_path, logger=logger, max_epochs=1).fit(Drawn(), loader())

    assert accumulated(logger.log_dir).Tags()["graph"] is False


def test_every_logger_is_given_the_module_on_its_device_after_on_fit_start(tmp_path: Path) -> None:
    told: list[Any] = []

    class Told(Logger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            told.append("row")

        def log_graph(self, model: Any, input_array: Any = None) -> None:
            told.append((model, input_array, model.started, next(model.parameters()).dtype))

    class Starting(Drawn):
        started = False

        def on_fit_start(self) -> None:
            self.started = True

    module = Starting()
    trainer_in(tmp_path, logger=[Told(), Told()], max_epochs=1, precision="64-true").fit(module, loader())

    assert told[:2] == [(module, None, True, torch.float64)] * 2
    assert set(told[2:]) == {"row"}


def test_only_a_fit_draws(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    trainer = trainer_in(tmp_path, logger=logger)
    trainer.validate(Drawn(), loader(), verbose=False)

    assert accumulated(logger.log_dir).Tags()["graph"] is False


def test_without_an_example_there_is_a_warning_and_training_goes_on(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=1)
    with pytest.warns(
        UserWarning, match=r"log_graph=True draws nothing: Regression has no example_input_array. Set it"
    ):
        trainer.fit(Regression(), loader())

    assert trainer.global_step == 5
    assert accumulated(logger.log_dir).Tags()["graph"] is False


class Two(nn.Module):
    """Takes two inputs, and returns what the tracer takes only if it is not strict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, scale: Tensor, shift: float = 1.0) -> dict[str, Tensor]:
        return {"out": self.layer(x) * scale + shift}


@pytest.mark.parametrize(
    "given",
    [
        (torch.zeros(2, 3), torch.ones(1)),
        [torch.zeros(2, 3), torch.ones(1)],
        {"scale": torch.ones(1), "x": torch.zeros(2, 3)},
        {"shift": torch.ones(1), "scale": torch.ones(1), "x": torch.zeros(2, 3)},
    ],
)
def test_inputs_are_given_in_order_or_by_name(tmp_path: Path, given: Any) -> None:
    nodes = draw(tmp_path, Two(), given)

    assert [op for _, op in nodes].count("aten::linear") == 1
    assert [op for _, op in nodes].count("aten::mul") == 1


def test_the_input_goes_through_the_hooks_around_the_transfer_and_gets_the_dtype_of_the_weights(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Transferred(Drawn):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch["text"]

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(batch)
            return batch + 1

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    module = Transferred().to(torch.float64)
    module.example_input_array = {"text": torch.zeros(1, 3)}
    draw(tmp_path, module)

    assert torch.equal(seen[0], torch.zeros(1, 3))
    assert len(seen) == 2  # forward runs once
    assert torch.equal(seen[1], torch.ones(1, 3, dtype=torch.float64))


def test_drawing_leaves_every_mode_as_it_was(tmp_path: Path) -> None:
    module = Drawn()
    module.train()
    module.net[0].eval()
    draw(tmp_path, module)

    assert [part.training for part in module.modules()] == [True, True, False, True, True]


def test_drawing_draws_no_random_number_and_changes_no_buffer(tmp_path: Path) -> None:
    class Random(Drawn):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            np.random.rand()
            return super().forward(self.norm(x) + torch.rand_like(x) + random.random())

    module = Random()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    draw(tmp_path, module)

    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected
    assert module.norm.num_batches_tracked == 0


def test_a_fit_with_a_graph_trains_as_one_without(tmp_path: Path) -> None:
    class Dropping(Drawn):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return loss_of(nn.Sequential(nn.Dropout(0.5), self.net), batch)

    weights = []
    for log_graph in (True, False):
        torch.manual_seed(3)
        module = Dropping()
        logger = TensorBoardLogger(tmp_path, log_graph=log_graph)
        trainer_in(tmp_path, logger=logger).fit(module, loader())
        weights.append(module.state_dict())

    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_properties_that_raise_do_not_disturb_the_drawing(tmp_path: Path) -> None:
    class Property(Drawn):
        @property
        def later(self) -> int:
            raise RuntimeError("not yet")

    assert draw(tmp_path, Property())


@pytest.mark.filterwarnings("error")
def test_drawing_warns_of_nothing(tmp_path: Path) -> None:
    assert draw(tmp_path, Drawn())


def fails(x: Tensor) -> Tensor:
    raise LookupError("planted")


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (
            None,
            "text",
            r"The graph of Drawn cannot be drawn with an example input of type str; give a tensor, a tuple of",
        ),
        (
            None,
            torch.zeros(2, 7),
            r"The graph of Drawn could not be drawn: RuntimeError: .*2x7 and 3x4.*torch.jit.trace",
        ),
        (
            None,
            {"y": torch.zeros(2, 3)},
            r"could not be drawn: TypeError: .*unexpected keyword argument 'y'.*Give an in",
        ),
        (None, ("a", "b"), r"could not be drawn: .*leave out log_graph=True"),
        (fails, torch.zeros(2, 3), r"could not be drawn: LookupError: planted"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_that_says_why(
    tmp_path: Path, change: Callable[[Tensor], Tensor] | None, given: Any, message: str
) -> None:
    module = Drawn()
    if change is not None:
        setattr(module, "forward", change)  # noqa: B010 - mypy minds the other way
    module.example_input_array = given
    trainer = trainer_in(tmp_path, logger=TensorBoardLogger(tmp_path, log_graph=True))
    with pytest.raises(MisconfigurationError, match=message) as raised:
        trainer.fit(module, loader())

    assert trainer.global_step == 0
    assert all(part.training for part in module.modules())
    assert isinstance(given, str) or raised.value.__cause__ is not None


def test_compiled_parts_cannot_be_drawn_and_the_error_says_so(tmp_path: Path) -> None:
    module = Drawn()
    module.net.compile(backend="eager")
    with pytest.raises(
        MisconfigurationError, match=r"could not be drawn: .*dynamo-optimized function.*leave out log_gr"
    ):
        draw(tmp_path, module)


def test_a_module_without_weights_can_be_drawn(tmp_path: Path) -> None:
    class Doubles(LightningModule):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    assert [op for _, op in draw(tmp_path, Doubles(), torch.zeros(2))].count("aten::mul") == 1
