"""Toggling: while one of several optimizers has its turn, the parameters of the others need no gradients."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch.nn import Parameter
from torch.optim import Optimizer

from hookloop.errors import MisconfigurationError


class _Change(NamedTuple):
    before: bool
    during: bool


@dataclass(frozen=True, slots=True)
class _Turn:
    """One optimizer's turn: `requires_grad` of every parameter of all optimizers, before it and during it."""

    optimizer: Optimizer
    changes: dict[Parameter, _Change]


class Turns:
    """The optimizers whose turn it is, the innermost last; turns may be nested."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    def begin(self, optimizer: Optimizer, optimizers: Iterable[Optimizer]) -> None:
        """Only the parameters of `optimizer` need gradients from now on, if they did when nobody had a turn.

        Args:
            optimizer: torch's; it may share parameters with others.
            optimizers: all that there are.
        """
        own = set(_parameters(optimizer))
        changes: dict[Parameter, _Change] = {}
        for other in (optimizer, *optimizers):
            for parameter in _parameters(other):
                if parameter not in changes:
                    during = parameter in own and self._outside_of_turns(parameter)
                    changes[parameter] = _Change(parameter.requires_grad, during)
        for parameter, change in changes.items():
            parameter.requires_grad_(change.during)
        self._turns.append(_Turn(optimizer, changes))

    def end(self, optimizer: Optimizer) -> None:
        """Everything is as it was before `begin`, but for what was changed by hand since then.

        Raises:
            MisconfigurationError: another optimizer's turn has to end first, or nobody has a turn.
        """
        if not self._turns or self._turns[-1].optimizer is not optimizer:
            whose = f"that of {_name(self._turns[-1].optimizer)}" if self._turns else "nobody's"
            raise MisconfigurationError(
                f"untoggle_optimizer was called with {_name(optimizer)}, and the turn is {whose}. Untoggle what was "
                "toggled last; `with self.toggled_optimizer(optimizer):` does both, after errors too."
            )
        for parameter, change in self._turns.pop().changes.items():
            if parameter.requires_grad is change.during:
                parameter.requires_grad_(change.before)

    def end_down_to(self, depth: int) -> None:
        """End turns, the innermost first, until `depth` of them are left."""
        while len(self._turns) > depth:
            self.end(self._turns[-1].optimizer)

    def __len__(self) -> int:
        return len(self._turns)

    def _outside_of_turns(self, parameter: Parameter) -> bool:
        needs = parameter.requires_grad
        for turn in reversed(self._turns):
            change = turn.changes.get(parameter)
            if change is not None and needs is change.during:
                needs = change.before
        return needs


def _parameters(optimizer: Optimizer) -> Sequence[Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _name(optimizer: Optimizer) -> str:
    first = next(iter(_parameters(optimizer)), None)
    return type(optimizer).__name__ + ("" if first is None else f" (first parameter: {tuple(first.shape)})")
