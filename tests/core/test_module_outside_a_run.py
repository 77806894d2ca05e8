"""What a module has besides its run: freezing, an example input, gathering, preparing and building itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import LightningDataModule, LightningModule
from hookloop.errors import HookloopError
from hookloop.strategies import SingleDeviceStrategy

from .fitting import Regression, equal, loader, trainer_in


def test_freeze_stops_training_and_unfreeze_starts_it_again() -> None:
    module = Regression()
    assert module.freeze() is module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.unfreeze() is module
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_frozen_part_is_not_trained(tmp_path: Path) -> None:
    class Part(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

    class Whole(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()
            self.part.freeze()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            index, x, y = batch
            return super().training_step([index, self.part.layer(x), y], batch_idx)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    whole = Whole()
    before = {name: weight.clone() for name, weight in whole.state_dict().items()}
    trainer_in(tmp_path, max_epochs=1).fit(whole, loader())
    changed = {name for name, weight in whole.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}


def test_an_example_input_is_kept_and_is_no_weight() -> None:
    module = Regression()
    assert module.example_input_array is None
    module.example_input_array = torch.ones(2, 3)
    assert torch.equal(module.example_input_array, torch.ones(2, 3))
    assert "example_input_array" not in module.state_dict()


def test_it_may_be_set_before_the_constructor_of_the_base_class() -> None:
    class Early(LightningModule):
        def __init__(self) -> None:
            self.example_input_array = (torch.ones(1), 2)
            self.strict_loading = False
            super().__init__()

    assert Early().example_input_array == (torch.ones(1), 2)
    assert Early().strict_loading is False


# all_gather


def gathered_in_a_run(data: Any, folder: Path) -> Any:
    found = []

    class Gathering(Regression):
        def on_train_start(self) -> None:
            found.append(self.all_gather(data))

    trainer_in(folder, max_epochs=1, limit_train_batches=1).fit(Gathering(), loader())
    return found[0]


def test_one_process_gathers_what_it_has(tmp_path: Path) -> None:
    tensor = torch.arange(6).reshape(2, 3)
    gathered = gathered_in_a_run({"a": tensor, "b": [1.5, (True, "text")]}, tmp_path)
    assert torch.equal(gathered["a"], tensor)
    assert gathered["a"].shape == (2, 3)
    assert torch.equal(gathered["b"][0], torch.tensor(1.5))
    assert torch.equal(gathered["b"][1][0], torch.tensor(True))
    assert gathered["b"][1][1] == "text"


def test_several_processes_have_a_dimension_for_their_ranks() -> None:
    class TwoRanks:
        world_size = 2
        strategy = None

    class Strategy(SingleDeviceStrategy):
        def __init__(self) -> None: ...

        def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
            return torch.stack([tensor, tensor + 10])

    module = Regression()
    trainer: Any = TwoRanks()
    trainer.strategy = Strategy()
    module._trainer = trainer
    gathered = module.all_gather({"a": torch.ones(2), "b": 3})
    assert gathered["a"].tolist() == [[1.0, 1.0], [11.0, 11.0]]
    assert gathered["b"].tolist() == [3, 13]


def test_without_a_trainer_there_is_nobody_to_gather_from() -> None:
    with pytest.raises(HookloopError, match="Regression is not attached to a Trainer"):
        Regression().all_gather(torch.ones(1))


# configure_model and prepare_data


class Built(Regression):
    """Builds its network when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.built, self.net = 0, None  # type: ignore[assignment]

    def configure_model(self) -> None:
        self.built += 1
        if self.net is None:
            self.net = Regression().net


def test_the_model_is_configured_once_by_each_entry_point(tmp_path: Path) -> None:
    built, usual = Built(), Regression()
    trainer = trainer_in(tmp_path)
    trainer.fit(built, loader(), loader())
    assert built.built == 1
    trainer_in(tmp_path).fit(usual, loader(), loader())
    assert all(torch.equal(one, other) for one, other in zip(built.parameters(), usual.parameters(), strict=True))
    trainer.validate(built, loader(), verbose=False)
    trainer.predict(built, loader())
    assert built.built == 3


def test_a_checkpoint_is_loaded_into_what_configure_model_builds(tmp_path: Path) -> None:
    built = Built()
    trainer = trainer_in(tmp_path, max_epochs=1)
    trainer.fit(built, loader())
    trainer.save_checkpoint(tmp_path / "file.ckpt")
    loaded = Built.load_from_checkpoint(tmp_path / "file.ckpt")
    assert loaded.built == 1
    assert equal(loaded.state_dict(), built.state_dict())
    resumed = Built()
    trainer_in(tmp_path).fit(resumed, loader(), ckpt_path=tmp_path / "file.ckpt")
    assert resumed.marks == ["t0", "t1", "t2", "t3", "t4"]


class Ranked:
    """The collectives of a process that is not the first one of its run."""

    def __init__(self, global_rank: int, local_rank: int) -> None:
        self.global_rank, self.local_rank, self.world_size = global_rank, local_rank, 1


@pytest.mark.parametrize(
    ("global_rank", "local_rank", "per_node", "prepares"),
    [(0, 0, True, True), (0, 0, False, True), (4, 0, True, True), (4, 0, False, False), (1, 1, True, False)],
)
def test_data_is_prepared_by_one_process_of_each_machine_or_of_the_run(
    global_rank: int, local_rank: int, per_node: bool, prepares: bool, tmp_path: Path
) -> None:
    prepared = []

    class Data(LightningDataModule):
        prepare_data_per_node = per_node

        def prepare_data(self) -> None:
            prepared.append("data")

        def train_dataloader(self) -> Any:
            return loader()

    class Module(Regression):
        def prepare_data(self) -> None:
            prepared.append("module")

    module = Module()
    module.prepare_data_per_node = per_node
    trainer = trainer_in(tmp_path, max_epochs=1, limit_train_batches=1)
    here = trainer.strategy.collectives
    collectives: Any = Ranked(global_rank, local_rank)
    collectives.barrier = lambda name=None: setattr(trainer.strategy, "collectives", here)
    trainer.strategy.collectives = collectives
    trainer.fit(module, datamodule=Data())
    assert prepared == (["data", "module"] if prepares else [])


@pytest.mark.parametrize("owner", [LightningModule, LightningDataModule])
def test_the_policies_of_several_devices_have_lightnings_defaults(owner: Any) -> None:
    assert owner().prepare_data_per_node is True
    assert owner().allow_zero_length_dataloader_with_multiple_devices is False


@pytest.mark.parametrize("name", ["unfreeze_", "freezes", "all_gathers", "save_hyperparameter"])
def test_a_helper_with_a_name_like_theirs_is_no_misspelt_hook(name: str, tmp_path: Path) -> None:
    module = type("Helped", (Regression,), {name: lambda self: None})()
    trainer_in(tmp_path, max_epochs=1, limit_train_batches=1).fit(module, loader())
    assert module.marks == ["t0"]


def test_a_module_on_one_device_is_spread_over_no_mesh(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Looks(Regression):
        def configure_model(self) -> None:
            seen.append(self.device_mesh)

    trainer_in(tmp_path, max_epochs=1).fit(Looks(), loader())
    assert seen == [None]
    assert Looks().device_mesh is None
