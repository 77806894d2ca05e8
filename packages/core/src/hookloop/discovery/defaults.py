"""The registered callbacks that apply to one Trainer."""

from typing import TYPE_CHECKING

from hookloop.callback import Callback, LambdaCallback
from hookloop.discovery.families import check_exclusive, check_passed, check_present, wanted
from hookloop.discovery.provenance import Provenance, registered_provenance
from hookloop.discovery.selection import switched_on
from hookloop.options import TrainerOptions

if TYPE_CHECKING:
    from hookloop.discovery.factories import Default


def registered_callbacks(options: TrainerOptions) -> list[tuple[Callback, Provenance]]:
    """The defaults for a Trainer with these arguments, to be appended to `options.callbacks`.

    Every factory that is switched on is called, so a new Trainer gets new callbacks. What the user passed wins: a
    default steps aside for one of its class, of a subclass of it, or of its family.

    Returns:
        Each default and where it comes from, ordered by distribution and entry point, the same on every machine.

    Raises:
        CallbackFactoryError: factories are broken: they cannot be imported, raise, return something else, or were built
            for another version of the core.
        MisconfigurationError: the arguments contradict each other or what is installed: an unknown name, a switch
            against a passed callback, a switch that nobody can serve, two defaults where a run can have one.
    """
    check_passed(options)
    factories = switched_on(options)
    defaults: list[Default] = []
    if factories:
        from hookloop.discovery.factories import make_defaults  # only where a package registers something

        defaults = make_defaults(factories, options)
    check_present(defaults, factories, options)
    defaults = [default for default in wanted(defaults, options) if not _steps_aside(default, options.callbacks)]
    check_exclusive(defaults)
    return [(default.callback, registered_provenance(default.registration)) for default in defaults]


def _steps_aside(default: "Default", passed: tuple[Callback, ...]) -> bool:
    callback = default.callback
    if any(callback is other for other in passed):
        return True
    if callback.family is not None and any(callback.family == other.family for other in passed):
        return True
    # Two LambdaCallbacks have their class in common, and nothing else.
    kind = type(callback)
    return kind not in (Callback, LambdaCallback) and any(isinstance(other, kind) for other in passed)
