"""Validating, testing and predicting with several loaders: lists, dicts, and CombinedLoaders of every mode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

from hookloop import LightningModule, Trainer
from hookloop.errors import HookError, MisconfigurationError
from hookloop.loaders.combined import CombinedLoader

from .fitting import Rows, trainer_in


def numbers(*values: float) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.tensor(values)), batch_size=1)


A, B = numbers(1, 2), numbers(10, 20, 30)
EMPTY = DataLoader(TensorDataset(torch.zeros(0)))

Seen = list[tuple[Any, ...]]


def plain(batch: Any) -> Any:
    """The numbers of a batch in its structure."""
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple) and len(batch) == 1 and isinstance(batch[0], Tensor):
        return batch[0].item()
    return batch if batch is None else [plain(one) for one in batch]


class Looks(LightningModule):
    """Writes down what its steps and hooks get; runs on one loader and on several."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = []
        self.hooked: Seen = []

    def look(self, batch: Any, batch_idx: int, *which: int) -> float:
        self.seen.append((plain(batch), batch_idx, *which))
        parts = batch.values() if isinstance(batch, dict) else [batch]
        return sum(plain(part) or 0 for part in parts)

    def validation_step(self, batch: Any, batch_idx: int, *which: int) -> None:
        self.log("value", self.look(batch, batch_idx, *which), batch_size=1)

    def test_step(self, batch: Any, batch_idx: int, *which: int) -> None:
        self.log("value", self.look(batch, batch_idx, *which), batch_size=1)

    def predict_step(self, batch: Any, batch_idx: int, *which: int) -> Any:
        self.look(batch, batch_idx, *which)
        return plain(batch)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.hooked.append((plain(batch), batch_idx, dataloader_idx))

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def training_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> None: ...


def run(trainer: Trainer, entry_point: str, module: LightningModule, loaders: Any) -> Any:
    verbose = {} if entry_point == "predict" else {"verbose": False}
    return getattr(trainer, entry_point)(module, loaders, **verbose)


ONE_AFTER_ANOTHER: Seen = [(1, 0, 0), (2, 1, 0), (10, 0, 1), (20, 1, 1), (30, 2, 1)]

TOGETHER: dict[str, Seen] = {
    "min_size": [({"a": 1, "b": 10}, 0), ({"a": 2, "b": 20}, 1)],
    "max_size": [({"a": 1, "b": 10}, 0), ({"a": 2, "b": 20}, 1), ({"a": None, "b": 30}, 2)],
    "max_size_cycle": [({"a": 1, "b": 10}, 0), ({"a": 2, "b": 20}, 1), ({"a": 1, "b": 30}, 2)],
}

ENTRY_POINTS = ["validate", "test", "predict"]

SEQUENCES: dict[str, Callable[[], Any]] = {
    "a list": lambda: [A, B],
    "a tuple": lambda: (A, B),
    "a dict": lambda: {"a": A, "b": B},
    "a nested collection": lambda: [A, {"b": (B,)}],
    "a sequential CombinedLoader": lambda: CombinedLoader({"a": A, "b": B}, "sequential"),
}


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_collection_is_gone_through_loader_by_loader(tmp_path: Path, entry_point: str, make: Any) -> None:
    module, trainer, given = Looks(), trainer_in(tmp_path), make()
    result = run(trainer, entry_point, module, given)
    assert module.seen == module.hooked == ONE_AFTER_ANOTHER
    if entry_point == "predict":
        assert result == [[1, 2], [10, 20, 30]]
    else:
        assert result == [{"value/dataloader_idx_0": 1.5}, {"value/dataloader_idx_1": 20.0}]
    kind = {"validate": "val"}.get(entry_point, entry_point)
    assert getattr(trainer, f"num_{kind}_batches") == [2, 3]
    shown = given.iterables if isinstance(given, CombinedLoader) else given
    assert getattr(trainer, f"{kind}_dataloaders") is shown


@pytest.mark.parametrize("mode", TOGETHER)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_combined_loader_of_another_mode_puts_batches_together(tmp_path: Path, entry_point: str, mode: Any) -> None:
    module, trainer, loaders = Looks(), trainer_in(tmp_path), {"a": A, "b": B}
    result = run(trainer, entry_point, module, CombinedLoader(loaders, mode))
    expected = TOGETHER[mode]
    assert module.seen == expected
    assert module.hooked == [(*seen, 0) for seen in expected]
    batches = [batch for batch, _ in expected]
    if entry_point == "predict":
        assert result == batches
    else:
        sums = [sum(value or 0 for value in batch.values()) for batch in batches]
        assert result == [{"value": pytest.approx(sum(sums) / len(sums))}]
    kind = {"validate": "val"}.get(entry_point, entry_point)
    assert getattr(trainer, f"num_{kind}_batches") == [len(expected)]
    assert getattr(trainer, f"{kind}_dataloaders") is loaders


def test_a_step_without_dataloader_idx_takes_batches_that_are_together_and_not_those_of_a_sequence(
    tmp_path: Path,
) -> None:
    class Without(Looks):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.look(batch, batch_idx)

    module = Without()
    trainer_in(tmp_path).validate(module, CombinedLoader({"a": A, "b": B}, "min_size"), verbose=False)
    assert module.seen == TOGETHER["min_size"]
    with pytest.raises(HookError, match="there are several loaders"):
        trainer_in(tmp_path).validate(Without(), [A, B], verbose=False)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, [(1, 0, 0), (10, 0, 1)]),
        (2, [(1, 0, 0), (2, 1, 0), (10, 0, 1), (20, 1, 1)]),
        (0.5, [(1, 0, 0), (10, 0, 1)]),
        (0.7, [(1, 0, 0), (10, 0, 1), (20, 1, 1)]),
        (7, ONE_AFTER_ANOTHER),
    ],
)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_limit_is_for_each_loader(tmp_path: Path, entry_point: str, limit: Any, expected: Seen) -> None:
    kind = {"validate": "val"}.get(entry_point, entry_point)
    module = Looks()
    run(trainer_in(tmp_path, **{f"limit_{kind}_batches": limit}), entry_point, module, {"a": A, "b": B})
    assert module.seen == expected


@pytest.mark.parametrize("mode", TOGETHER)
def test_a_limit_of_loaders_that_are_together_is_for_all_of_them(tmp_path: Path, mode: Any) -> None:
    module = Looks()
    trainer = trainer_in(tmp_path, limit_val_batches=1)
    trainer.validate(module, CombinedLoader({"a": A, "b": B}, mode), verbose=False)
    assert module.seen == TOGETHER[mode][:1]
    assert trainer.num_val_batches == [1]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_an_empty_loader_among_several_is_passed_over_and_keeps_its_index(tmp_path: Path, entry_point: str) -> None:
    module = Looks()
    kind = {"validate": "val"}.get(entry_point, entry_point)
    with pytest.warns(UserWarning, match=rf"^The {kind} dataloader 1 has no batch: it is passed over\.$"):
        result = run(trainer_in(tmp_path), entry_point, module, [A, EMPTY, B])
    assert module.seen == [(*seen[:2], 2 * seen[2]) for seen in ONE_AFTER_ANOTHER]
    if entry_point == "predict":
        assert result == [[1, 2], [], [10, 20, 30]]
    else:
        assert [list(metrics) for metrics in result] == [["value/dataloader_idx_0"], [], ["value/dataloader_idx_2"]]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("nothing", [[], {}, ()], ids=repr)
def test_no_loader_at_all_gives_nothing(tmp_path: Path, entry_point: str, nothing: Any) -> None:
    module = Looks()
    assert run(trainer_in(tmp_path), entry_point, module, nothing) == ([] if entry_point == "predict" else [{}])
    assert module.seen == []


class Gathers(Looks):
    """Puts together what its batches gave, which fails where there was none, as `torch.cat` of nothing does."""

    def _gather(self) -> None:
        torch.cat([torch.tensor([batch_idx]) for _, batch_idx, _ in self.seen])

    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _gather


@pytest.mark.filterwarnings("ignore:The .* dataloader . has no batch")
@pytest.mark.parametrize("nothing", [[], EMPTY, [EMPTY, EMPTY]], ids=["no loader", "an empty one", "two"])
def test_without_a_batch_no_hook_of_an_evaluation_is_called(tmp_path: Path, nothing: Any) -> None:
    loaders = 2 if nothing == [EMPTY, EMPTY] else 1
    for entry_point in ENTRY_POINTS:
        result = run(trainer_in(tmp_path), entry_point, Gathers(), nothing)
        empty: Any = [[], []] if loaders == 2 else []
        if entry_point != "predict":
            empty = [{}] * loaders
        assert result == empty
    trainer = trainer_in(tmp_path, num_sanity_val_steps=1)
    trainer.fit(Gathers(), [0], nothing)
    assert trainer.current_epoch == 2
    assert not trainer.enable_validation


def test_inside_a_fit_and_its_sanity_check_the_same_holds(tmp_path: Path) -> None:
    rows, module = Rows(), Looks()
    trainer = trainer_in(tmp_path, max_epochs=1, num_sanity_val_steps=1, logger=rows)
    trainer.fit(module, [0], {"a": A, "b": B})
    assert module.seen == [(1, 0, 0), (10, 0, 1), *ONE_AFTER_ANOTHER]
    assert trainer.num_sanity_val_batches == [1, 1]
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {
        "value/dataloader_idx_0": 1.5,
        "value/dataloader_idx_1": 20.0,
    }

    module = Looks()
    trainer_in(tmp_path, max_epochs=1, num_sanity_val_steps=1).fit(
        module, [0], CombinedLoader({"a": A, "b": B}, "max_size")
    )
    assert module.seen == [*TOGETHER["max_size"][:1], *TOGETHER["max_size"]]


class Told(SequentialSampler):
    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


@pytest.mark.parametrize("together", [False, True])
def test_samplers_of_validation_are_told_the_epoch_of_training(tmp_path: Path, together: bool) -> None:
    samplers = [Told(1), Told(2)]
    data = [TensorDataset(torch.zeros(len(sampler))) for sampler in samplers]
    loaders: Any = {len(one): DataLoader(one, sampler=sampler) for one, sampler in zip(data, samplers, strict=True)}
    loaders = CombinedLoader(loaders, "max_size") if together else loaders
    module, trainer = Looks(), trainer_in(tmp_path, max_epochs=3)
    trainer.fit(module, [0], loaders)
    assert [sampler.epochs for sampler in samplers] == [[0, 1, 2], [0, 1, 2]]
    # On their own, the epochs that are done.
    for entry_point in ENTRY_POINTS:
        run(trainer, entry_point, module, loaders)
    assert [sampler.epochs[3:] for sampler in samplers] == [[3, 3, 3], [3, 3, 3]]


def test_a_list_of_lists_of_batches_is_one_of_loaders(tmp_path: Path) -> None:
    module = Looks()
    batches = [[torch.tensor([1.0])], [torch.tensor([2.0])]]
    trainer_in(tmp_path).validate(module, [batches, [[torch.tensor([10.0])]]], verbose=False)
    assert module.seen == [(1, 0, 0), (2, 1, 0), (10, 0, 1)]


def test_what_cannot_be_iterated_in_a_dict_is_named(tmp_path: Path) -> None:
    message = r"The val dataloaders that were passed gave 5 \(int\), which cannot be iterated"
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path).validate(Looks(), {"a": A, "b": [5, B]}, verbose=False)
