"""`Strategy`: the questions that the loops ask about where a model and its gradients are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hookloop.accelerators import Accelerator
from hookloop.batches import move_data_to_device
from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.distributed import Collectives
from hookloop.errors import MisconfigurationError
from hookloop.gradients import CLIP_ALGORITHMS
from hookloop.module.compiled_names import names_in, plain_names
from hookloop.precision import Precision
from hookloop.strategies.initialization import tensors_on


class Strategy(ABC):
    """Places a module, runs its steps, and steps its optimizers, on one device or many.

    The order of a run is fixed: `place` (which shards, if anything does), then configure_optimizers, then restore.

    Args:
        accelerator: the kind of device.
        root_device: the device of this process.
        precision: the numeric precision.
        collectives: how the ranks talk.
        checkpoint_io: where checkpoints are kept; None is in local files.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        root_device: torch.device,
        precision: Precision,
        collectives: Collectives,
        checkpoint_io: CheckpointIO | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.root_device = root_device
        self.precision = precision
        self.collectives = collectives
        self.checkpoint_io = TorchCheckpointIO() if checkpoint_io is None else checkpoint_io

    # the model

    @abstractmethod
    def place(self, module: nn.Module) -> None:
        """Move the module to its device or devices, in place."""

    @abstractmethod
    def release(self, module: nn.Module) -> None:
        """Give back what `place` took: the module is an ordinary one on the CPU again."""

    @abstractmethod
    def step_function(self, step: Callable[..., Any], updates_weights: bool = False) -> Callable[..., Any]:
        """A step of the module as it runs here, in its precision; called by the loops in its place.

        Args:
            step: a step of the module.
            updates_weights: whether it steps optimizers itself, as with manual optimization.
        """

    def tensor_init_context(self, empty_init: bool | None = None) -> AbstractContextManager[None]:
        """Around the making of a module: its tensors are made on this device, in the dtype of the weights.

        Args:
            empty_init: True leaves weights as the memory was, for a module that loads its weights anyway.
        """
        return tensors_on(self.root_device, self.precision.weights_dtype, bool(empty_init))

    def module_state_dict(self, module: nn.Module) -> dict[str, Any]:
        """The module's weights as a checkpoint keeps them: what torch.compile wrote into their names is left out."""
        return plain_names(module.state_dict())

    def load_module_state_dict(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Load weights into the module; returns the names that were missing and unexpected, as torch does."""
        return module.load_state_dict(names_in(module, state), strict=strict)

    # checkpoints

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> "Future[None] | None":
        """Write a checkpoint, from rank zero alone; returns what the CheckpointIO does."""
        if not self.is_global_zero:
            return None
        return self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; its tensors are on the CPU.

        Raises:
            CheckpointError: what was read is no checkpoint.
        """
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)
        from hookloop.checkpoint_file import checked_contents  # not by every run

        return checked_contents(checkpoint, checkpoint_path)

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Remove a checkpoint, from rank zero alone."""
        if self.is_global_zero:
            self.checkpoint_io.remove_checkpoint(filepath)

    # batches

    @property
    def moves_batches(self) -> bool:
        """Whether `to_device` may change a batch: not on the CPU, where batches are born."""
        return self.root_device.type != "cpu" or self.precision.converts_inputs

    def to_device(self, batch: Any) -> Any:
        """The batch on this process's device, in the precision of the inputs."""
        return move_data_to_device(self.precision.convert_input(batch), self.root_device)

    # gradients

    def steps_directly(self, optimizer: Optimizer) -> bool:
        """Whether a loop may call closure, `before_step` and `optimizer.step()` itself instead of `optimizer_step`."""
        return self.precision.steps_directly(optimizer)

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any] | None,
        before_step: Callable[[], None],
        **kwargs: Any,
    ) -> Any:
        """Run the closure if there is one, then `before_step`, then the optimizer; returns what its step returned."""
        return self.precision.optimizer_step(optimizer, closure, before_step, **kwargs)

    def clip_gradients(self, optimizer: Optimizer, clip_val: int | float | None, algorithm: str = "norm") -> None:
        """Clip the gradients of an optimizer's parameters in place.

        Args:
            optimizer: whose parameters.
            clip_val: the largest total norm (over all of them), or the largest absolute value; None or 0 does nothing.
            algorithm: "norm" (`torch.nn.utils.clip_grad_norm_`) or "value" (`clip_grad_value_`).

        Raises:
            MisconfigurationError: another algorithm.
        """
        if algorithm not in CLIP_ALGORITHMS:
            raise MisconfigurationError(
                f'gradient_clip_algorithm={algorithm!r} is not known. Use "norm" (total norm) or '
                '"value" (each element).'
            )
        if not clip_val:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if algorithm == "value":
            nn.utils.clip_grad_value_(parameters, clip_value=clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, max_norm=clip_val)

    # ranks, under the names that callbacks know

    def barrier(self, name: str | None = None) -> None:
        """Wait until every rank is here."""
        self.collectives.barrier(name)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The object of rank `src`, on every rank."""
        return self.collectives.broadcast(obj, src)

    def reduce(self, tensor: Tensor, group: Any = None, reduce_op: str = "mean") -> Tensor:
        """Elementwise reduction over the ranks."""
        return self.collectives.reduce(tensor, reduce_op)

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        """The tensors of all ranks, stacked along a new first dimension."""
        return self.collectives.all_gather(tensor)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Whether all ranks decided True, or any did."""
        if all:
            return not self.collectives.any(not decision)
        return self.collectives.any(decision)

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.collectives.global_rank == 0
