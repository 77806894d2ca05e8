"""`LightningDataModule`: the data of an experiment, from download to dataloaders, in one object."""

import inspect
import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import IO, Any, Self, TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hookloop.batches import move_data_to_device
from hookloop.errors import MisconfigurationTypeError
from hookloop.hyperparameters import HyperparametersMixin
from hookloop.hyperparameters.class_only import class_only

Datasets: TypeAlias = Dataset[Any] | Iterable[Dataset[Any]] | Mapping[Any, Dataset[Any]] | None
"""One dataset or several."""


class LightningDataModule(HyperparametersMixin):
    """Where the loaders come from when they are not passed to the Trainer.

    Define the `*_dataloader` methods that the entry points need; everything else is optional. The trainer calls
    `prepare_data`, then `setup(stage)` before any callback's setup, then the loaders when they are first needed, and
    `teardown(stage)` whatever happens.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"

    trainer: Any = None
    """The trainer that runs, or last ran, with this object; None before."""

    prepare_data_per_node: bool = True
    """Whether `prepare_data` is called on every machine of a run; False: on one, as its files are seen by all."""

    allow_zero_length_dataloader_with_multiple_devices: bool = False
    """Whether a loader may be empty on one of several devices. On one device it always may."""

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Datasets = None,
        val_dataset: Datasets = None,
        test_dataset: Datasets = None,
        predict_dataset: Datasets = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> Self:
        """A datamodule with a DataLoader for each dataset. The training data is shuffled, unless it is iterable.

        Args:
            train_dataset: a dataset (torch's, or anything with a length and items by index), or a list, tuple or dict
                of datasets, which becomes one of loaders.
            val_dataset: the same for validation.
            test_dataset: the same for testing.
            predict_dataset: the same for prediction.
            batch_size: samples of a batch. The constructor gets it too if it has an argument of that name.
            num_workers: processes of each DataLoader; 0 loads in this process. The constructor gets it likewise.
            **datamodule_kwargs: arguments of the constructor.

        Raises:
            MisconfigurationTypeError: something that is given as a dataset is none.
        """
        arguments = inspect.signature(cls).parameters
        takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
        sizes = {"batch_size": batch_size, "num_workers": num_workers}
        shared = {name: size for name, size in sizes.items() if takes_any or name in arguments}
        datamodule = cls(**shared, **datamodule_kwargs)
        stages = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for stage, given in stages.items():
            if given is not None:
                _check_datasets(stage, given)
                # A partial, so that a datamodule whose datasets can be pickled can be pickled.
                method = partial(_loaders, given, shuffle=stage == "train", **sizes)
                setattr(datamodule, f"{stage}_dataloader", method)
        return datamodule

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str] | IO[bytes],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A new datamodule, constructed with its hyperparameters in a checkpoint, and with its state in it if any.

        Args:
            checkpoint_path: the file, here or remote (`https://...`), or an open binary file.
            map_location: where tensors in it go: a device, or what else torch.load understands. None: the device that
                they were saved from if there is one here, else the CPU.
            hparams_file: settings (.yaml, .yml or .csv) to take in place of the checkpoint's.
            weights_only: False loads a file that holds other objects than tensors and plain values, and runs whatever
                code is in it. None is True.
            **kwargs: arguments of the constructor, which go before those in the file. If the settings were saved as one
                object, what is no argument changes its items.

        Raises:
            CheckpointError: the file cannot be read, or lacks an argument that the constructor needs.
            MisconfigurationError: an argument is not known, or map_location is no device.
        """
        # Not by every import.
        from hookloop.checkpoint_file import read_checkpoint, where_it_was
        from hookloop.hyperparameters.loading import check_map_location, construct

        check_map_location(map_location)
        checkpoint = read_checkpoint(
            checkpoint_path, weights_only is not False, where_it_was if map_location is None else map_location
        )
        datamodule = construct(cls, checkpoint, hparams_file, kwargs)
        # Lightning keeps the state under the name of the class.
        state = checkpoint.get("datamodule", checkpoint.get(cls.__qualname__))
        if state is not None:
            datamodule.load_state_dict(state)
        return datamodule

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle belongs to no trainer, and must not drag one along.
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}

    def prepare_data(self) -> None:
        """Download and preprocess; called by one process of each machine (`prepare_data_per_node`), or of the run.

        Do not set state here: other processes would not have it.
        """

    def setup(self, stage: str) -> None:
        """Build the datasets. `stage` is "fit", "validate", "test" or "predict"."""

    def teardown(self, stage: str) -> None:
        """Undo `setup`. Runs after an error too, if setup had completed."""

    def train_dataloader(self) -> Any:
        """For training: any iterable of batches, or several of them in a list, a dict or a CombinedLoader."""
        return None

    def val_dataloader(self) -> Any:
        """For validation: any iterable of batches, or several in a list, a dict or a CombinedLoader."""
        return None

    def test_dataloader(self) -> Any:
        """For testing, likewise."""
        return None

    def predict_dataloader(self) -> Any:
        """For prediction, likewise."""
        return None

    def on_exception(self, exception: BaseException) -> None:
        """Called once, with the first exception of a run."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it is moved to the device; returns the batch."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a batch to `device`; override it for batches that hookloop cannot walk through."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch that is on the device already; returns the batch."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this object."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


def _check_datasets(stage: str, given: Any, inside: str = "") -> None:
    if isinstance(given, Mapping | list | tuple) and not isinstance(given, Dataset):
        items = given.items() if isinstance(given, Mapping) else enumerate(given)
        for key, dataset in items:
            _check_datasets(stage, dataset, f"{inside}[{key!r}]")
    elif (
        isinstance(given, type)
        or not (isinstance(given, Dataset) or (hasattr(given, "__getitem__") and hasattr(given, "__len__")))
        or isinstance(given, str)
    ):
        kind = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise MisconfigurationTypeError(
            f"from_datasets({stage}_dataset{inside}={given!r}) got {kind}, and a dataset is needed: "
            "a torch.utils.data.Dataset, or an object with a length and items by index. Several go into a list, a "
            "tuple or a dict; samples in a list can be given as torch.utils.data.TensorDataset, or as a Dataset of "
            "your own."
        )


def _loaders(given: Any, batch_size: int, num_workers: int, shuffle: bool) -> Any:
    if isinstance(given, Mapping | list | tuple) and not isinstance(given, Dataset):
        if isinstance(given, Mapping):
            return {key: _loaders(dataset, batch_size, num_workers, shuffle) for key, dataset in given.items()}
        return [_loaders(dataset, batch_size, num_workers, shuffle) for dataset in given]
    return DataLoader(
        given,
        batch_size=batch_size,
        num_workers=num_workers,
        shuffle=shuffle and not isinstance(given, IterableDataset),
        pin_memory=torch.cuda.is_available(),  # without CUDA, torch warns of it
    )
