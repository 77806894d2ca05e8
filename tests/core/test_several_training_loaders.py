"""Training on several loaders at once, against plain loops: the batches, the weights, and everything that counts."""

import math
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler, TensorDataset

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.loaders.combined import CombinedLoader

from .fitting import Saves, equal, network, trainer_in

SIZES = {"long": 5, "short": 2}


def batches_of(name: str) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(len(name))
    count = SIZES[name]
    return [[torch.randn(2, 3, generator=generator), torch.randn(2, 1, generator=generator)] for _ in range(count)]


def loader(name: str, **arguments: Any) -> DataLoader[Any]:
    x, y = (torch.cat(parts) for parts in zip(*batches_of(name), strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=2, **arguments)


def tensors_in(batch: Any) -> list[list[Tensor]]:
    """The pairs of tensors in a batch of whatever structure; None is none."""
    if batch is None:
        return []
    if isinstance(batch, list | tuple) and len(batch) == 2 and isinstance(batch[0], Tensor):
        return [list(batch)]
    children = batch.values() if isinstance(batch, dict) else batch
    return [pair for child in children for pair in tensors_in(child)]


def loss_of(net: nn.Module, batch: Any) -> Tensor:
    return torch.stack([functional.mse_loss(net(x), y) for x, y in tensors_in(batch)]).sum()


class Learner(LightningModule):
    """Keeps the batches that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert batch_idx == self.trainer.batch_idx
        self.seen.append(batch)
        return loss_of(self.net, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def trained_plainly(epochs: list[list[Any]], accumulate: int = 1) -> dict[str, Tensor]:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for batches in epochs:
        for start in range(0, len(batches), accumulate):
            window = batches[start : start + accumulate]
            optimizer.zero_grad()
            for batch in window:
                (loss_of(net, batch) / len(window) if accumulate > 1 else loss_of(net, batch)).backward()
            optimizer.step()
    return net.state_dict()


def combined(mode: str, limit: float = math.inf) -> list[dict[str, Any]]:
    """The batches of an epoch of a dict of both loaders, each mode written out."""
    long, short = batches_of("long"), batches_of("short")
    if mode == "min_size":
        epoch = [{"long": a, "short": b} for a, b in zip(long, short, strict=False)]
    elif mode == "max_size_cycle":
        epoch = [{"long": a, "short": short[index % 2]} for index, a in enumerate(long)]
    elif mode == "max_size":
        epoch = [{"long": a, "short": b} for a, b in zip_longest(long, short)]
    else:
        epoch = [*long, *short]  # type: ignore[list-item]
    return epoch if limit == math.inf else epoch[: int(limit)]


MODES = ["max_size_cycle", "max_size", "min_size", "sequential"]


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_trains_as_a_plain_loop_does_bit_for_bit(tmp_path: Path, mode: Any, accumulate: int) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, CombinedLoader({"long": loader("long"), "short": loader("short")}, mode))
    epoch = combined(mode)
    assert equal(module.seen, epoch * 2)
    assert trainer.num_training_batches == len(epoch)
    assert trainer.global_step == 2 * math.ceil(len(epoch) / accumulate)
    assert equal(module.net.state_dict(), trained_plainly([epoch, epoch], accumulate))


class Both(NamedTuple):
    one: Any
    other: Any


COLLECTIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "a list": (lambda a, b: [a, b], lambda a, b: [a, b]),
    "a tuple": (lambda a, b: (a, b), lambda a, b: (a, b)),
    "a named tuple": (Both, Both),
    "a dict": (lambda a, b: {"a": a, "b": b}, lambda a, b: {"a": a, "b": b}),
    "a nested one": (lambda a, b: {"a": [a], "b": (b,)}, lambda a, b: {"a": [a], "b": (b,)}),
    "a list of one": (lambda a, b: [a], lambda a, b: [a]),
    "lists of batches in a dict": (lambda a, b: {"a": [*a], "b": [*b]}, lambda a, b: {"a": a, "b": b}),
}


@pytest.mark.parametrize(("collect", "batch"), COLLECTIONS.values(), ids=COLLECTIONS)
@pytest.mark.parametrize("supplied", ["passed", "by the module"])
def test_a_collection_of_loaders_cycles_and_its_batches_have_its_structure(
    tmp_path: Path, supplied: str, collect: Any, batch: Any
) -> None:
    module = Learner()
    collection = collect(loader("long"), loader("short"))
    if supplied == "by the module":
        module.train_dataloader = lambda: collection  # type: ignore[method-assign]
    trainer = trainer_in(tmp_path, max_epochs=1)
    trainer.fit(module, collection if supplied == "passed" else None)
    long, short = batches_of("long"), batches_of("short")
    expected = [batch(a, short[index % 2]) for index, a in enumerate(long)]
    assert equal(module.seen, expected)
    assert [type(one) for one in module.seen] == [type(one) for one in expected]
    assert equal(module.net.state_dict(), trained_plainly([expected]))
    assert trainer.train_dataloader is collection


def test_the_trainer_shows_the_loaders_of_a_combined_one_and_leaves_that_as_it_was(tmp_path: Path) -> None:
    loaders = {"long": loader("long"), "short": loader("short")}
    given = CombinedLoader(loaders, "max_size")
    trainer = trainer_in(tmp_path, max_epochs=1, limit_train_batches=3)
    trainer.fit(Learner(), given)
    assert trainer.train_dataloader is loaders
    assert trainer.num_training_batches == 3
    assert (given.limits, given.iterables is loaders, len(given)) == (None, True, 5)


def test_a_combined_loader_of_ones_own_class_is_gone_through_in_its_own_way(tmp_path: Path) -> None:
    class Backwards(CombinedLoader):
        def __iter__(self) -> Any:
            return iter([(batch, index, 0) for index, batch in enumerate(reversed(batches_of("long")))])

    module = Learner()
    trainer_in(tmp_path, max_epochs=1).fit(module, Backwards([loader("long"), loader("short")], "max_size"))
    assert equal(module.seen, list(reversed(batches_of("long"))))


# Limits

LIMITS: list[tuple[str, int | float, list[int]]] = [
    # mode, limit, and from which batches of "short" the epoch is made; -1 is none
    ("max_size_cycle", 3, [0, 1, 0]),
    ("max_size_cycle", 0.6, [0, 1, 0]),
    ("max_size_cycle", 1, [0]),
    ("max_size", 3, [0, 1, -1]),
    ("max_size", 0.8, [0, 1, -1, -1]),
    ("min_size", 3, [0, 1]),
    ("min_size", 0.5, [0]),
    ("min_size", 1, [0]),
]


@pytest.mark.parametrize(("mode", "limit", "short"), LIMITS)
def test_a_limit_holds_for_each_loader_and_the_mode_for_what_is_left(
    tmp_path: Path, mode: Any, limit: float, short: list[int]
) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=1, limit_train_batches=limit)
    trainer.fit(module, CombinedLoader([loader("long"), loader("short")], mode))
    longs, shorts = batches_of("long"), [*batches_of("short"), None]
    assert equal(module.seen, [[longs[index], shorts[which]] for index, which in enumerate(short)])
    assert trainer.num_training_batches == len(short)


def test_a_limit_in_sequence_takes_so_many_of_each(tmp_path: Path) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=1, limit_train_batches=1)
    trainer.fit(module, CombinedLoader([loader("long"), loader("short")], "sequential"))
    assert equal(module.seen, [batches_of("long")[0], batches_of("short")[0]])


def test_limits_of_the_users_own_hold_too(tmp_path: Path) -> None:
    module = Learner()
    given = CombinedLoader([loader("long"), loader("short")], "sequential")
    given.limits = [2, 1]
    trainer_in(tmp_path, max_epochs=1, limit_train_batches=3).fit(module, given)
    assert equal(module.seen, [*batches_of("long")[:2], batches_of("short")[0]])


@pytest.mark.parametrize(("interval", "after"), [(2, [2, 4]), (0.4, [2, 4]), (1.0, [5]), (5, [5])])
def test_val_check_interval_counts_batches_of_the_combination(tmp_path: Path, interval: Any, after: list[int]) -> None:
    validated: list[int] = []

    class Validates(Learner):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            validated.append(self.trainer.batch_idx)

    module = Validates()
    trainer = trainer_in(tmp_path, max_epochs=1, val_check_interval=interval)
    trainer.fit(module, [loader("long"), loader("short")], [0])
    assert validated == after


def test_an_interval_longer_than_the_combination_is_refused(tmp_path: Path) -> None:
    class Validates(Learner):
        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    trainer = trainer_in(tmp_path, max_epochs=1, val_check_interval=3)
    both = CombinedLoader([loader("long"), loader("short")], "min_size")
    with pytest.raises(MisconfigurationError, match=r"val_check_interval=3 batches is longer than .* of 2 batches"):
        trainer.fit(Validates(), both, [0])


@pytest.mark.parametrize(("mode", "steps"), [("max_size_cycle", 5), ("min_size", 2), ("sequential", 7)])
def test_the_steps_to_come_are_estimated_from_the_combination(tmp_path: Path, mode: Any, steps: int) -> None:
    estimated: list[float] = []

    class Asks(Learner):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            estimated.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    trainer_in(tmp_path, max_epochs=3).fit(Asks(), CombinedLoader([loader("long"), loader("short")], mode))
    assert estimated == [3 * steps]


# The last batch, samplers, ending early


class Stream(IterableDataset[Any]):
    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Iterator[Any]:
        return iter(batches_of(self.name))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("streams", [False, True], ids=["with lengths", "without"])
def test_the_last_batch_is_known_whether_lengths_are_or_not(tmp_path: Path, mode: Any, streams: bool) -> None:
    last: list[bool] = []

    class Looks(Learner):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            last.append(self.trainer.is_last_batch)

    module = Looks()
    loaders = [DataLoader(Stream(name), batch_size=None) if streams else loader(name) for name in SIZES]
    trainer = trainer_in(tmp_path, max_epochs=1, accumulate_grad_batches=3)
    trainer.fit(module, CombinedLoader(loaders, mode))
    epoch = combined(mode)
    assert last == [False] * (len(epoch) - 1) + [True]
    assert trainer.num_training_batches == (math.inf if streams else len(epoch))
    if streams:
        # The last window's losses were divided by its full size before its end was known; then rescaled.
        for ours, plain in zip(module.net.state_dict().values(), trained_plainly([epoch], 3).values(), strict=True):
            torch.testing.assert_close(ours, plain)
    else:
        assert equal(module.net.state_dict(), trained_plainly([epoch], 3))


class Told(SequentialSampler):
    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_every_sampler_is_told_each_epoch(tmp_path: Path) -> None:
    samplers = [Told(10), Told(4)]
    loaders = {name: loader(name, sampler=sampler) for name, sampler in zip(SIZES, samplers, strict=True)}
    trainer_in(tmp_path, max_epochs=3).fit(Learner(), loaders)
    assert [sampler.epochs for sampler in samplers] == [[0, 1, 2], [0, 1, 2]]


def test_minus_one_from_on_train_batch_start_ends_the_epoch_of_all_loaders(tmp_path: Path) -> None:
    class Skips(Learner):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 3 else None

    module = Skips()
    trainer_in(tmp_path, max_epochs=2).fit(module, {"long": loader("long"), "short": loader("short")})
    assert equal(module.seen, combined("max_size_cycle", 3) * 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_run_that_is_resumed_goes_on_with_the_next_combination(tmp_path: Path, mode: Any, after: int) -> None:
    def both() -> CombinedLoader:
        return CombinedLoader({"long": loader("long"), "short": loader("short")}, mode)

    whole, path = Learner(), tmp_path / "middle.ckpt"
    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=after), max_epochs=2).fit(whole, both())
    resumed = Learner()
    trainer_in(tmp_path, max_epochs=2).fit(resumed, both(), ckpt_path=path)
    assert equal(resumed.seen, whole.seen[after:])
    assert equal(resumed.net.state_dict(), whole.net.state_dict())


# What is empty, and what is no loader


@pytest.mark.parametrize(("mode", "batches"), [("max_size_cycle", 0), ("min_size", 0), ("max_size", 5)])
def test_one_empty_loader_of_several_counts_as_its_mode_has_it(tmp_path: Path, mode: Any, batches: int) -> None:
    module = Learner()
    given = CombinedLoader([loader("long"), []], mode)
    if batches == 0:
        with pytest.warns(UserWarning, match=rf'in mode "{mode}", number 1 has no batch: this fit does nothing'):
            trainer_in(tmp_path, max_epochs=1).fit(module, given)
        assert module.seen == []
    else:
        trainer_in(tmp_path, max_epochs=1).fit(module, given)
        assert equal(module.seen, [[batch, None] for batch in batches_of("long")])


LOOK_LIKE_BATCHES: dict[str, Any] = {
    "tensors": [torch.ones(2), torch.ones(2)],
    "pairs of tensors": [(torch.ones(2), torch.ones(2)), (torch.ones(2), torch.ones(2))],
    "dicts of tensors": [{"x": torch.ones(2)}, {"x": torch.ones(2)}],
    "tensors with names": [[torch.ones(2), "a", 1], [torch.ones(2), "b", None]],
    "a dict of tensors": {"x": torch.ones(2), "y": torch.ones(2)},
}


@pytest.mark.parametrize("given", LOOK_LIKE_BATCHES.values(), ids=LOOK_LIKE_BATCHES)
def test_what_looks_like_batches_is_not_taken_for_loaders(tmp_path: Path, given: Any) -> None:
    message = r"stands for several loaders.*looks like batches.*batch_size=None.*CombinedLoader"
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path).fit(Learner(), given)


def test_batches_that_are_wrapped_as_the_message_says_are_trained_on(tmp_path: Path) -> None:
    module = Learner()
    trainer_in(tmp_path, max_epochs=1).fit(module, DataLoader(batches_of("long"), batch_size=None))  # type: ignore[arg-type]
    assert equal(module.seen, batches_of("long"))


@pytest.mark.parametrize("wrong", [None, 5, object()], ids=["None", "a number", "an object"])
def test_what_cannot_be_iterated_among_several_is_named(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"The train dataloaders that were passed gave .* cannot be iter"):
        trainer_in(tmp_path).fit(Learner(), [loader("long"), [wrong, loader("short")]])
    with pytest.raises(MisconfigurationError, match=r"The train dataloaders that were passed gave .* cannot be iter"):
        trainer_in(tmp_path).fit(Learner(), CombinedLoader({"a": loader("long"), "b": wrong}))


def test_a_fraction_of_several_needs_the_length_of_each(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, limit_train_batches=0.5)
    with pytest.raises(MisconfigurationError, match=r"limit_train_batches=0\.5 is a fraction, and .* has no length"):
        trainer.fit(Learner(), [loader("long"), DataLoader(Stream("short"), batch_size=None)])
