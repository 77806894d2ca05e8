"""`CallbackList`: the trainer's callbacks, checked as they come in and always in the order in which they run."""

from collections.abc import Callable, Iterable, MutableSequence
from typing import Any, overload

from hookloop.callback import Callback, Hooks, declared_names, order_of
from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import overrides


class CallbackList(MutableSequence[Callback]):
    """A list of callbacks, sorted by `Order`; inside a group by `runs_after`, else as they came in.

    Args:
        callbacks: to begin with; copied.
        supplier: tells who supplies a callback, for messages; None, or what is None or empty, tells nothing.

    Raises:
        MisconfigurationError: something in it is no callback, two of them would share a state in a checkpoint, or one
            declares that it cannot be in a run with another one. A change that is refused leaves the list as it was.
    """

    def __init__(
        self, callbacks: Iterable[Callback] = (), supplier: Callable[[Callback], object] | None = None
    ) -> None:
        self._items: list[Callback] = []
        self._supplier = supplier
        self._changed: Callable[[CallbackList], None] | None = None
        self.replace(callbacks)

    def replace(self, callbacks: Iterable[Callback]) -> None:
        """Take these callbacks in place of those that are there."""
        items = list(callbacks)
        for callback in items:
            _check_callback_type(callback)
        for index, callback in enumerate(items):
            if any(callback is other for other in items[:index]):
                raise MisconfigurationError(
                    f"The same {type(callback).__name__} object is in the callbacks twice, so each of its hooks would "
                    "run twice. Pass it once, or two objects."
                )
        items.sort(key=order_of)
        if any(declared_names(one, "conflicts") or declared_names(one, "runs_after") for one in items):
            from hookloop.interplay import arranged, check_conflicts  # few declare anything

            check_conflicts(items, self._supplier)
            check_state_keys(items, self._supplier)
            items = arranged(items)
        else:
            check_state_keys(items, self._supplier)
        before, self._items = self._items, items
        if self._changed is not None:
            try:
                self._changed(self)
            except BaseException:
                self._items = before
                raise

    def listen(self, changed: Callable[["CallbackList"], None]) -> None:
        """Call `changed` with the list after each change, until `stop_listening`; if it raises, the change is undone.

        A run listens, to compile its hooks anew.
        """
        self._changed = changed

    def stop_listening(self) -> None:
        """Call nobody any more."""
        self._changed = None

    @overload
    def __getitem__(self, index: int) -> Callback: ...
    @overload
    def __getitem__(self, index: slice) -> list[Callback]: ...
    def __getitem__(self, index: int | slice) -> Callback | list[Callback]:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        items = list(self._items)
        items[index] = value
        self.replace(items)

    def __delitem__(self, index: int | slice) -> None:
        items = list(self._items)
        del items[index]
        self.replace(items)

    def insert(self, index: int, value: Callback) -> None:
        """Add a callback before that place; its `order` may move it on."""
        items = list(self._items)
        items.insert(index, value)
        self.replace(items)

    def extend(self, values: Iterable[Callback]) -> None:
        """Add them all in one change."""
        self.replace([*self._items, *values])

    def reverse(self) -> None:
        """Turn the order round inside each group."""
        self.replace(list(reversed(self._items)))

    def clear(self) -> None:
        """Remove all of them in one change."""
        self.replace([])

    def __add__(self, others: Iterable[Callback]) -> list[Callback]:
        return [*self._items, *others]

    def __radd__(self, others: Iterable[Callback]) -> list[Callback]:
        return [*others, *self._items]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == list(other) if isinstance(other, CallbackList | list | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._items)


def as_callbacks(given: Any, where: str = "callbacks holds") -> list[Callback]:
    """What was passed as callbacks (None, one, or several), as a new list.

    Args:
        given: what was passed.
        where: how a message begins that says what is wrong with it.

    Raises:
        MisconfigurationError: something in it is no Callback.
    """
    if given is None:
        return []
    if isinstance(given, Callback):
        return [given]
    callbacks: list[Any] = [given] if isinstance(given, type) or not isinstance(given, Iterable) else list(given)
    for callback in callbacks:
        _check_callback_type(callback, where)
    return callbacks


def _check_callback_type(callback: object, where: str = "callbacks holds") -> None:
    if isinstance(callback, Callback):
        return
    if isinstance(callback, type) and issubclass(callback, Callback):
        raise MisconfigurationError(
            f"{where} the class {callback.__name__} where an instance is needed: write {callback.__name__}(...)."
        )
    raise MisconfigurationError(
        f"{where} {callback!r} ({type(callback).__name__}), which is no Callback. Pass instances of "
        "hookloop.Callback; functions can be wrapped in hookloop.LambdaCallback(on_train_end=...)."
    )


def check_state_keys(callbacks: Iterable[Callback], supplier: Callable[[Callback], object] | None) -> None:
    """Whether each callback that has a state has a key of its own for it.

    Args:
        callbacks: of one run.
        supplier: tells who supplies a callback, for the message.

    Raises:
        MisconfigurationError: two have the same key, or a key cannot be read.
    """
    owners: dict[str, Callback] = {}
    for callback in callbacks:
        if not overrides(callback, Hooks, "state_dict"):
            continue
        first = owners.setdefault(_state_key(callback), callback)
        if first is not callback:
            from hookloop.interplay import with_home  # for a message

            raise MisconfigurationError(
                f"Two callbacks would share one state in a checkpoint: {with_home(first, supplier)} and "
                f"{with_home(callback, supplier)} "
                f'both have the state_key "{callback.state_key}". Remove one, or define the property state_key so that '
                "it differs between them."
            )


def _state_key(callback: Callback) -> str:
    try:
        return callback.state_key
    except Exception as error:
        from hookloop.interplay import with_home  # for a message

        raise MisconfigurationError(
            f"{with_home(callback)} has a state_key that raised {type(error).__name__}: {error}. It is read when the "
            "callback is given to a Trainer, so it may depend on what __init__ sets, and not on what setup does."
        ) from error


def merge_module_callbacks(callbacks: Iterable[Callback], of_module: Iterable[Callback]) -> list[Callback]:
    """The trainer's callbacks with those of the module's configure_callbacks.

    A module's callback replaces those of the trainer whose class is its own or a base of it (but Callback itself), and
    goes to the end.
    """
    added = list(of_module)
    kept = [
        callback
        for callback in callbacks
        if type(callback) is Callback or not any(isinstance(own, type(callback)) for own in added)
    ]
    return kept + added
