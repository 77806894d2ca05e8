"""The text of `trainer.explain()`: the callbacks in their order, who supplies each, and what each one does."""

from collections.abc import Iterable, Mapping
from textwrap import wrap

from hookloop.callback import HOOKS, Callback, Hooks, order_of
from hookloop.discovery import Provenance, provenance
from hookloop.hook_checks import overrides

_WIDTH = 100
_INDENT = "     "


def explain_callbacks(callbacks: Iterable[Callback], suppliers: Mapping[int, Provenance | str]) -> str:
    """A block for each callback: its name, order and supplier, then the hooks that it overrides.

    Args:
        callbacks: in the order in which they run.
        suppliers: by `id`, where those come from that the user did not pass.
    """
    listed = list(callbacks)
    if not listed:
        return "No callbacks."
    width = max(len(type(callback).__name__) for callback in listed)
    lines = [f"{len(listed)} callback{'s' if len(listed) > 1 else ''}, in the order in which they run:"]
    for number, callback in enumerate(listed, start=1):
        supplier = suppliers.get(id(callback)) or provenance(callback) or "passed by you"
        lines.append(f"{number:3}. {type(callback).__name__.ljust(width)}  {order_of(callback).name:<7}  {supplier}")
        hooks = [name for name in HOOKS if overrides(callback, Hooks, name)]
        text = ", ".join(hooks) or "overrides no hook"
        lines += wrap(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return "\n".join(lines)
