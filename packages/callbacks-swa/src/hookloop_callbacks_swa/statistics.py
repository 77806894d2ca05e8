"""What batch norms see with averaged weights: a pass over the training data that is no training."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from hookloop import LightningDataModule, LightningModule
from hookloop.hook_checks import overrides
from hookloop.random_state import isolated_random_state
from hookloop.utilities import CombinedLoader
from hookloop.view import TrainerView


def compute_statistics(
    trainer: TrainerView,
    module: LightningModule,
    forward: Callable[[LightningModule, Any], object],
    batches: int | None,
) -> None:
    """Compute the statistics of a module's batch norms anew, with the weights that are in it.

    They are the means over all batches, with equal weights, as those of `torch.optim.swa_utils.update_bn`. No hook of
    training is called, nothing is counted, no random number of the run is drawn, the loader's place stays as it is.

    Args:
        trainer: its training loader is gone through.
        module: in train mode meanwhile.
        forward: runs the module on one batch, which is on its device.
        batches: how many at most; None is an epoch's.
    """
    count = trainer.num_training_batches if batches is None else min(batches, trainer.num_training_batches)
    step = trainer.strategy.step_function(lambda batch: forward(module, batch))
    transfer = _transfer(trainer, module)
    with _beginning_anew(module), torch.no_grad(), isolated_random_state(), _kept_generators(trainer.train_dataloader):
        stop = None if count == float("inf") else int(count)
        for batch in islice(_another_pass(trainer.train_dataloader), stop):
            step(transfer(batch))


def first_tensor(module: LightningModule, batch: Any) -> object:
    """Run a module on a batch, or on the first part of one that is a list or tuple, as `update_bn` does."""
    return module(batch[0] if isinstance(batch, list | tuple) else batch)


@contextmanager
def _beginning_anew(module: nn.Module) -> Iterator[None]:
    """Batch norms in train mode that forget what they have seen, and count each batch alike."""
    modes = [(part, part.training) for part in module.modules()]
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    momenta = [(part, part.momentum) for part in norms]
    try:
        module.train()
        for part in norms:
            part.reset_running_stats()
            part.momentum = None
        yield
    finally:
        for part, momentum in momenta:
            part.momentum = momentum
        for one, training in modes:
            one.training = training


def _another_pass(loader: Any) -> Iterable[Any]:
    """The loader once more, while training may be inside of it."""
    if isinstance(loader, Mapping | list | tuple):  # several loaders, which training goes through as one
        return (batch for batch, _, _ in CombinedLoader(loader, "max_size_cycle"))
    again = copy.copy(loader)
    if isinstance(again, DataLoader):
        # Workers that are kept from epoch to epoch belong to the pass that training is in.
        vars(again)["_iterator"] = None
    return again  # type: ignore[no-any-return]


@contextmanager
def _kept_generators(loader: Any) -> Iterator[None]:
    """Generators of the loader's own, such as that of its shuffling, are as they were afterwards."""
    owners = [loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    own = {id(one): one for owner in owners if isinstance(one := getattr(owner, "generator", None), torch.Generator)}
    states = [(one, one.get_state()) for one in own.values()]
    try:
        yield
    finally:
        for one, state in states:
            one.set_state(state)


def _transfer(trainer: TrainerView, module: LightningModule) -> Callable[[Any], Any]:
    """Brings a batch to the device, through whatever the datamodule or the module does with batches."""
    data, strategy = trainer.datamodule, trainer.strategy

    def own(name: str) -> Callable[..., Any] | None:
        if data is not None and overrides(data, LightningDataModule, name):
            return getattr(data, name)  # type: ignore[no-any-return]
        return getattr(module, name) if overrides(module, LightningModule, name) else None

    before, move, after = map(own, ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"))

    def transfer(batch: Any) -> Any:
        if before is not None:
            batch = before(batch, 0)
        batch = strategy.to_device(batch) if move is None else move(batch, strategy.root_device, 0)
        return batch if after is None else after(batch, 0)

    return transfer
