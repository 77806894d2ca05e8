"""The text of `trainer.explain()`: the callbacks in their order, who supplies each, and what each one does."""

from collections.abc import Iterable, Mapping

from hookloop.callback import HOOKS, Callback, Hooks
from hookloop.discovery import Provenance, provenance
from hookloop.hook_checks import overrides


def explain_callbacks(callbacks: Iterable[Callback], registered: Mapping[int, Provenance | str]) -> str:
    """A block of two lines for each callback.

    Args:
        callbacks: in the order in which they run.
        registered: by `id`, where those come from that nobody passed.
    """
    listed = list(callbacks)
    if not listed:
        return "No callbacks."
    width = max(len(type(callback).__name__) for callback in listed)
    blocks = [f"{len(listed)} callback{'s' if len(listed) > 1 else ''}, in the order in which they run:"]
    for number, callback in enumerate(listed, start=1):
        supplier = registered.get(id(callback)) or provenance(callback) or "passed by you"
        hooks = [name for name in HOOKS if overrides(callback, Hooks, name)]
        name = type(callback).__name__.ljust(width)
        blocks.append(f"{number:3}. {name}  {callback.order.name:<7}  {supplier}")
        blocks.append(f"     {', '.join(hooks) or 'overrides no hook'}")
    return "\n".join(blocks)
