"""How a batch gets to the device: one function per run, or none where there is nothing to do."""

from collections.abc import Callable
from typing import Any

from hookloop.datamodule import LightningDataModule
from hookloop.hook_checks import overrides
from hookloop.loops.parts import strategy_part
from hookloop.module import LightningModule
from hookloop.run import Run

TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def transfer_function(run: Run) -> Callable[[Any, int], Any] | None:
    """A function of batch and dataloader index that returns the batch on the device.

    The hooks of the datamodule go before those of the module. None when batches are born where they are used and nobody
    overrides a hook: on the CPU a step pays nothing for this.
    """
    before, move, after = (_overridden(run, name) for name in TRANSFER_HOOKS)
    strategy = run.strategy
    if before is None and move is None and after is None:
        if not strategy.moves_batches:
            return None
        return strategy_part(run, lambda batch, dataloader_idx: strategy.to_device(batch), "batch_to_device")

    def transfer(batch: Any, dataloader_idx: int) -> Any:
        batch = strategy.precision.convert_input(batch)
        if before is not None:
            batch = before(batch, dataloader_idx)
        if move is not None:
            batch = move(batch, strategy.root_device, dataloader_idx)
        else:
            batch = strategy.to_device(batch)
        return after(batch, dataloader_idx) if after is not None else batch

    return strategy_part(run, transfer, "batch_to_device")


def _overridden(run: Run, name: str) -> Callable[..., Any] | None:
    if run.datamodule is not None and overrides(run.datamodule, LightningDataModule, name):
        hook: Callable[..., Any] = getattr(run.datamodule, name)
        return hook
    if overrides(run.module, LightningModule, name):
        own: Callable[..., Any] = getattr(run.hooks.own, name)
        return own
    return None
