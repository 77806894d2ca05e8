"""Rules that are read from a callback without a run: its hooks, its imports, its state_key."""

from itertools import combinations

from hookloop import Callback
from hookloop.callback import Hooks, order_of
from hookloop.errors import CallbackContractError, MisconfigurationError
from hookloop.hook_checks import check_callback as check_hooks
from hookloop.hook_checks import overrides
from hookloop.interplay import arranged, check_conflicts
from hookloop.testing.public_names import foreign_private_names, sources_of
from hookloop.testing.runs import NotTriedError, Subject, broken, needed, trainer_of
from hookloop.testing.tiny import TinyDataModule


def hooks_can_be_called(subject: Subject) -> None:
    """The factory makes a callback; its methods that look like hooks are hooks; order and names can be read."""
    try:
        callback = subject.make()
    except NotTriedError as error:
        raise CallbackContractError(
            f"There is no callback to try: {error}. The factory takes no argument and returns a new Callback."
        ) from error
    if subject.make() is callback:
        raise broken(
            callback,
            "is the same object each time that the factory is called.",
            "Make a new one in it: each run is tried with a callback of its own.",
        )
    try:
        check_hooks(callback)
        order_of(callback)
        check_conflicts([callback])
        arranged([callback])
    except MisconfigurationError as error:
        raise CallbackContractError(str(error)) from error


def uses_public_names_alone(subject: Subject) -> None:
    """Its sources use no name of hookloop that begins with an underscore."""
    callback = subject.make()
    found = foreign_private_names(sources_of(type(callback)))
    if found:
        raise broken(
            callback,
            f"uses private names of hookloop: {'; '.join(found)}.",
            "They may be gone in the next release. What a callback may use stands in hookloop.view.TrainerView and the "
            "documentation; a name of its own that another object has too is set as self._name somewhere.",
        )


def keys_tell_configurations_apart(subject: Subject) -> None:
    """Callbacks of the same configuration have one state_key, those of others have others; a run does not change it."""
    made = subject.make()
    if not overrides(made, Hooks, "state_dict"):
        return
    again = subject.make()
    key = _key(made)
    if key != _key(again):
        raise broken(
            made,
            f"has another state_key each time that it is made ({key!r}, then {_key(again)!r}), so a resumed run would "
            "not find its state.",
            "Make the key of the class's name and the constructor's arguments.",
        )
    for one, other in combinations([made, *(make() for make in subject.others)], 2):
        if _key(one) == _key(other):
            raise broken(
                one,
                f"has the state_key {_key(one)!r} in two configurations, so that two in one run would share a state.",
                "Define the property state_key, and put into it what tells the two apart.",
            )
    needed(lambda: trainer_of(subject, [again]).fit(subject.module(), datamodule=TinyDataModule()), again)
    if _key(again) != key:
        raise broken(
            again,
            f"had the state_key {key!r} before a run and {_key(again)!r} after it, so a resumed run would not find its "
            "state.",
            "Make the key of what the constructor got.",
        )


def _key(callback: Callback) -> str:
    try:
        key: object = callback.state_key
    except Exception as error:
        raise broken(
            callback,
            f"has a state_key that raised {type(error).__name__}: {error}.",
            "It is read before setup, so it may depend on what __init__ sets, and on nothing else.",
        ) from error
    if not isinstance(key, str):
        raise broken(callback, f"has the state_key {key!r}, which is no string.", "Return a string.")
    return key
