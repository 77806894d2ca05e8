"""Callback classes by name: what `hookloop.callbacks` offers beyond the core's own."""

from difflib import get_close_matches

from hookloop.callback import Callback
from hookloop.discovery.catalogue import DISTRIBUTION_OF_CLASS
from hookloop.discovery.entries import Registration, installed
from hookloop.discovery.loading import load

_FACE = "hookloop.callbacks"


def callback_class_names() -> list[str]:
    """The names of all classes that installed packages register, sorted; nothing is imported."""
    return sorted({one.name for one in installed().classes})


def callback_class(name: str) -> type[Callback]:
    """The class that an installed package registers under `name`; this imports the package.

    Raises:
        ImportError: the class is of a hookloop package that is not installed, two packages claim the name, or the
            package that has it is broken.
        AttributeError: nobody has such a class.
    """
    claims = [one for one in installed().classes if one.name == name]
    if not claims:
        if name in DISTRIBUTION_OF_CLASS:
            distribution = DISTRIBUTION_OF_CLASS[name]
            raise ImportError(
                f"{name} is in {distribution}, which is not installed, or too old to have it. Run "
                f"`pip install --upgrade {distribution}` and start Python again.",
                name=_FACE,
            )
        raise AttributeError(_unknown(name), name=name)
    if len(claims) > 1:
        raise ImportError(
            f"{_FACE}.{name} is claimed by {len(claims)} entry points: "
            + "; ".join(f"{one.distribution} {one.version} ({one.definition})" for one in claims)
            + f". Import it from the package that you mean, for example `from {claims[0].module} import {name}`, or "
            "uninstall one of them.",
            name=_FACE,
        )
    return _loaded(claims[0])


def _loaded(registration: Registration) -> type[Callback]:
    try:
        found = load(registration)
        if not (isinstance(found, type) and issubclass(found, Callback)):
            raise TypeError(f"it is {found!r}, which is no subclass of Callback")
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"{_FACE}.{registration.name} cannot be imported from {registration.distribution} {registration.version} "
            f"(entry point {registration.definition}). {type(error).__name__}: {error}",
            name=_FACE,
        ) from error
    return found


def _unknown(name: str) -> str:
    own = ("Callback", "LambdaCallback", "Order")
    close = get_close_matches(name, sorted({*own, *callback_class_names(), *DISTRIBUTION_OF_CLASS}), n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    names = ", ".join(sorted({*own, *callback_class_names()}))
    return f"{_FACE} has no {name}.{guess} Installed are: {names}."
