"""`HookRecorder`: writes down each hook as it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hookloop.callback import HOOKS, Callback

_OF_STATE = ("state_dict", "load_state_dict")


@dataclass(frozen=True)
class HookCall:
    """One call of a hook.

    Attributes:
        who: the name of the recorder that was called.
        hook: the hook's name.
        arguments: what it got, without `trainer` and `pl_module`.
    """

    who: str
    hook: str
    arguments: tuple[Any, ...]


class HookRecorder(Callback):
    """Overrides every hook but those for state, and writes each call down.

    Args:
        who: told apart by this name, where several recorders share a list.
        calls: the list to write into, in the order of the calls; None makes a new one.
    """

    def __init__(self, who: str = "recorder", calls: list[HookCall] | None = None) -> None:
        self.who = who
        self.calls: list[HookCall] = [] if calls is None else calls

    @property
    def hooks(self) -> list[str]:
        """The names of the hooks that this recorder heard, in their order."""
        return [call.hook for call in self.calls if call.who == self.who]

    def of(self, hook: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of one hook, without `trainer` and `pl_module`."""
        return [call.arguments for call in self.calls if call.who == self.who and call.hook == hook]


def _recording(hook: str) -> Callable[..., None]:
    def method(self: HookRecorder, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self.calls.append(HookCall(self.who, hook, arguments))

    method.__name__ = method.__qualname__ = hook
    method.__doc__ = getattr(Callback, hook).__doc__
    return method


for _hook in HOOKS:
    if _hook not in _OF_STATE:
        setattr(HookRecorder, _hook, _recording(_hook))
