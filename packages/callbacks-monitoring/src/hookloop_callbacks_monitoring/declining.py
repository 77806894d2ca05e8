"""`Declining`: hooks of a callback that a run has no use for are not called in it."""

from types import MethodType
from typing import ClassVar

from hookloop import Callback
from hookloop.view import TrainerView


class Declining(Callback):
    """A callback whose hooks can be given up for a run: in a step, what is not called costs nothing.

    Attributes:
        declinable: names of hooks, of the class that defines them; what a subclass overrides is called in any case.
    """

    declinable: ClassVar[tuple[str, ...]] = ()

    def decline(self, *hooks: str, trainer: TrainerView | None = None) -> None:
        """Give up these hooks, and no others of the declinable ones.

        Args:
            *hooks: their names; none gives all of them back.
            trainer: the one whose run is going on, which is told; None outside of one.
        """
        owner = next(kind for kind in type(self).__mro__ if "declinable" in vars(kind))
        for hook in self.declinable:
            vars(self).pop(hook, None)
            if hook in hooks and getattr(type(self), hook) is getattr(owner, hook):
                setattr(self, hook, MethodType(getattr(Callback, hook), self))
        if trainer is not None:
            trainer.callbacks[:] = list(trainer.callbacks)  # the hooks are compiled anew

    def __getstate__(self) -> object:
        state = super().__getstate__()
        if isinstance(state, dict):
            state = {key: value for key, value in state.items() if key not in self.declinable}
        return state
