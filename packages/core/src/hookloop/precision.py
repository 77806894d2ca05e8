"""Numeric precision: dtypes of weights and batches, autocast around the steps, loss scaling where float16 needs it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hookloop.batches import map_batch
from hookloop.errors import MisconfigurationError

Step: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Kind:
    weights: torch.dtype | None = None
    """What parameters, buffers, floating inputs and new tensors inside a step are; None leaves them alone."""
    autocast: torch.dtype | None = None
    """What autocast computes in; None means no autocast."""


_KINDS = {
    "64-true": _Kind(weights=torch.float64),
    "32-true": _Kind(),
    "16-true": _Kind(weights=torch.float16),
    "bf16-true": _Kind(weights=torch.bfloat16),
    "16-mixed": _Kind(autocast=torch.float16),
    "bf16-mixed": _Kind(autocast=torch.bfloat16),
}

_ALIASES: dict[object, str] = {
    None: "32-true",
    64: "64-true",
    32: "32-true",
    16: "16-mixed",
    "64": "64-true",
    "32": "32-true",
    "16": "16-mixed",
    "bf16": "bf16-mixed",
}


_STEP_AFTER_CLOSURE = frozenset(
    value
    for value in vars(torch.optim).values()
    if isinstance(value, type) and issubclass(value, Optimizer) and value is not torch.optim.LBFGS
)
"""Optimizers that run their closure once, before anything else: to run it first and step without one is the same, and
saves them a context that enables gradients. Of other libraries' optimizers nothing is known, so they get the
closure."""


class Precision:
    """How numbers are represented in a run. For "32-true" everything here hands back what it was given.

    A subclass may override `convert_module`, `convert_input`, `forward_context`, `scale`, `optimizer_step`,
    `state_dict` and `load_state_dict`; `Trainer(plugins=...)` takes it.

    Args:
        name: "64-true", "32-true" (None), "16-true", "bf16-true", "16-mixed" or "bf16-mixed", or Lightning's short
            forms 64, 32, 16 and "bf16".
        device_type: "cpu" or "cuda". Gradients of "16-mixed" are scaled on CUDA.

    Raises:
        MisconfigurationError: another name.
    """

    def __init__(self, name: str | int | None = None, device_type: str = "cpu") -> None:
        key: str | None = None
        if isinstance(name, str) and name in _KINDS:
            key = name
        elif name is None or (isinstance(name, str | int) and not isinstance(name, bool)):
            key = _ALIASES.get(name)
        if key is None:
            allowed = ", ".join(f'"{kind}"' for kind in _KINDS)
            raise MisconfigurationError(f"precision={name!r} is not known. Use one of {allowed}.")
        self.name = key
        self._kind = _KINDS[key]
        self._device_type = device_type
        scaled = key == "16-mixed" and device_type == "cuda"
        self._scaler = torch.amp.GradScaler(device_type) if scaled else None
        self._unscaled: set[int] = set()
        self._stepped: set[int] = set()

    @property
    def precision(self) -> str:
        """The same as `name`."""
        return self.name

    @property
    def autocast_device(self) -> str | None:
        """The kind of device that autocast was set up for; None without autocast."""
        return None if self._kind.autocast is None else self._device_type

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Give parameters and floating buffers the dtype of this precision, in place; returns the same module."""
        # Not module.to(dtype), which would drop the imaginary part of complex weights.
        if self._kind.weights is torch.float64:
            module.double()
        elif self._kind.weights is torch.float16:
            module.half()
        elif self._kind.weights is torch.bfloat16:
            module.bfloat16()
        return module

    @property
    def weights_dtype(self) -> torch.dtype | None:
        """What `convert_module` makes floating weights; None where it leaves them alone."""
        return self._kind.weights

    @property
    def converts_inputs(self) -> bool:
        """Whether `convert_input` changes anything."""
        return self._kind.weights is not None or self._overrides("convert_input")

    def convert_input(self, batch: Any) -> Any:
        """The batch with its floating tensors in the dtype of the weights."""
        dtype = self._kind.weights
        if dtype is None:
            return batch
        return map_batch(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, batch)

    def forward_context(self) -> AbstractContextManager[Any]:
        """What the steps of the module run in: autocast, or new tensors in the dtype of the weights, or nothing."""
        if self._kind.autocast is not None:
            return torch.autocast(self._device_type, dtype=self._kind.autocast)
        return nullcontext() if self._kind.weights is None else _default_dtype(self._kind.weights)

    def around(self, step: Step, updates_weights: bool = False) -> Step:
        """The step as it runs in this precision; the same function where there is nothing to do.

        Args:
            step: a step of the module.
            updates_weights: whether it steps optimizers itself. Autocast then keeps no converted copies of weights,
                which would be those of before.
        """
        if self._overrides("forward_context"):

            @wraps(step)
            def in_own_context(*args: Any, **kwargs: Any) -> Any:
                with self.forward_context():
                    return step(*args, **kwargs)

            return in_own_context
        if self._kind.autocast is not None:
            autocast: Step = torch.autocast(
                self._device_type, dtype=self._kind.autocast, cache_enabled=not updates_weights
            )(step)
            return autocast
        dtype = self._kind.weights
        if dtype is None:
            return step

        @wraps(step)
        def with_default_dtype(*args: Any, **kwargs: Any) -> Any:
            with _default_dtype(dtype):
                return step(*args, **kwargs)

        return with_default_dtype

    @property
    def scales_loss(self) -> bool:
        """Whether `scale` changes anything."""
        return self._scaler is not None or self._overrides("scale")

    def steps_directly(self, optimizer: Optimizer) -> bool:
        """Whether `optimizer_step` is no more than closure, `before_step` and the optimizer's step, in that order."""
        if self._scaler is not None or self._overrides("optimizer_step"):
            return False
        return type(optimizer) in _STEP_AFTER_CLOSURE

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        if self._scaler is None:
            return loss
        self._update_scale()
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide an optimizer's gradients by the scale of the losses that they come from; the second time it is done.

        Args:
            optimizer: torch's optimizer.

        Raises:
            MisconfigurationError: no loss was scaled.
        """
        if self._scaler is None or id(optimizer) in self._unscaled or not _has_gradients(optimizer):
            return
        try:
            self._scaler.unscale_(optimizer)
        except AssertionError as error:
            raise MisconfigurationError(
                'precision="16-mixed" divides gradients by the scale that the loss was multiplied by, and no loss was '
                "scaled before this step. Call self.manual_backward(loss) instead of loss.backward()."
            ) from error
        self._unscaled.add(id(optimizer))

    def _update_scale(self) -> None:
        # Not right after a step: other optimizers may wait for theirs with gradients of the same scale.
        if self._scaler is not None and self._unscaled:
            self._scaler.update()
            self._unscaled.clear()
            self._stepped.clear()

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any] | None,
        before_step: Callable[[], None],
        **kwargs: Any,
    ) -> Any:
        """Compute gradients and step.

        Args:
            optimizer: torch's optimizer.
            closure: runs the training step and backward, and returns the loss, or None if this batch was skipped; None
                if the gradients are there.
            before_step: what has to happen between complete, unscaled gradients and the step: hooks and clipping.
            **kwargs: what else the optimizer's `step` gets.

        Returns:
            What the optimizer's step returned; the closure's loss where it was run before.
        """
        step: Callable[..., Any] = optimizer.step
        if self._scaler is not None:
            return self._scaled_step(self._scaler, optimizer, closure, before_step, kwargs)
        if closure is None:
            before_step()
            return step(**kwargs)
        if self.steps_directly(optimizer):
            loss = closure()
            before_step()
            step(**kwargs)
            return loss
        compute = closure

        def complete_closure() -> Any:
            loss = compute()
            if loss is None and isinstance(optimizer, torch.optim.LBFGS):
                raise MisconfigurationError(
                    "LBFGS compares the losses of several evaluations in a step, and it got None instead of one. "
                    "Return the loss from training_step for every batch, or, with manual optimization, from the "
                    "closure that optimizer.step(closure) gets."
                )
            before_step()
            return loss

        return step(closure=complete_closure, **kwargs)

    def _scaled_step(
        self,
        scaler: torch.amp.GradScaler,
        optimizer: Optimizer,
        closure: Callable[[], Any] | None,
        before_step: Callable[[], None],
        kwargs: dict[str, Any],
    ) -> Any:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise MisconfigurationError(
                'precision="16-mixed" scales the loss, and LBFGS evaluates it several times a step, which torch\'s '
                'GradScaler cannot do. Use precision="bf16-mixed" or another optimizer.'
            )
        loss = None if closure is None else closure()
        if id(optimizer) in self._stepped or not _has_gradients(optimizer):
            # No loss was scaled for this step: what gradients there are have their true size.
            before_step()
            optimizer.step(**kwargs)
            return loss
        self.unscale(optimizer)
        before_step()
        scaler.step(optimizer, **kwargs)
        self._stepped.add(id(optimizer))
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The loss scale and its history; empty without scaling."""
        if self._stepped:
            self._update_scale()
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved loss scale."""
        if self._scaler is not None and state:
            self._update_scale()  # of steps before; what is loaded replaces it
            self._scaler.load_state_dict(state)

    def _overrides(self, method: str) -> bool:
        """Whether a subclass has its own."""
        return getattr(type(self), method) is not getattr(Precision, method)


class MixedPrecision(Precision):
    """Weights in float32, and operations that can afford it in 16 bits: torch's autocast.

    Args:
        precision: "16-mixed" or "bf16-mixed".
        device: the kind of device that is trained on: "cpu" or "cuda".
        scaler: scales the loss of "16-mixed"; None makes one on CUDA.

    Raises:
        MisconfigurationError: another precision, or a scaler for "bf16-mixed", which needs none.
    """

    def __init__(self, precision: str, device: str, scaler: torch.amp.GradScaler | None = None) -> None:
        _check_among("MixedPrecision", precision, ("16-mixed", "bf16-mixed"))
        if scaler is not None and precision != "16-mixed":
            raise MisconfigurationError(
                f"MixedPrecision({precision!r}, scaler={scaler!r}): bfloat16 reaches as far as float32, and nothing "
                'has to be scaled. Leave the scaler out, or use "16-mixed".'
            )
        super().__init__(precision, torch.device(device).type)
        self._scaler = scaler or self._scaler

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss, None where nothing does."""
        return self._scaler


class HalfPrecision(Precision):
    """Weights, inputs and everything else in 16 bits.

    Args:
        precision: "16-true" or "bf16-true".

    Raises:
        MisconfigurationError: another precision.
    """

    def __init__(self, precision: str = "16-true") -> None:
        _check_among("HalfPrecision", precision, ("16-true", "bf16-true"))
        super().__init__(precision)


class DoublePrecision(Precision):
    """Weights, inputs and everything else in float64."""

    def __init__(self) -> None:
        super().__init__("64-true")


def _check_among(plugin: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        use = " or ".join(f'"{one}"' for one in allowed)
        raise MisconfigurationError(f"{plugin}({given!r}): use {use}.")


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
