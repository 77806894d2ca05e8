"""Names that installed packages supply: callback classes for `hookloop.callbacks`, and whatever else a face offers."""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from hookloop.absent import absent
from hookloop.callback import Callback
from hookloop.discovery.catalogue import DISTRIBUTION_OF_CLASS, DISTRIBUTION_OF_NAME, PLACES
from hookloop.discovery.entries import Registration, installed
from hookloop.discovery.loading import load

_FACE = "hookloop.callbacks"


def callback_class_names() -> list[str]:
    """The names of all classes that installed packages register, sorted; nothing is imported."""
    return sorted({one.name for one in installed().classes})


def callback_class(name: str, face: str = _FACE) -> type[Callback]:
    """The class that an installed package registers under `name`; this imports the package.

    Args:
        name: of the class.
        face: the module that it was looked for in.

    Raises:
        ImportError: the class is of a hookloop package that is not installed, two packages claim the name, the
            package that has it is broken, or hookloop has no such class and says what to use instead.
        AttributeError: nobody has such a class.
    """
    claims = [one for one in installed().classes if one.name == name]
    if not claims:
        if name in DISTRIBUTION_OF_CLASS:
            raise _not_installed(name, DISTRIBUTION_OF_CLASS[name], face)
        raise absent(face, name, _unknown(name))
    found = _loaded(face, claims, of_class=True)
    assert isinstance(found, type)  # and a Callback, or _loaded had raised
    return found


def name_at(face: str, name: str) -> Any:
    """What Lightning's users find under `name` in the module `face`, from the package that has it.

    Raises:
        ImportError: as for `callback_class`.
        AttributeError: there is no such name in that module.
    """
    if name not in PLACES[face]:
        raise absent(face, name)
    if face.startswith(_FACE) and name in DISTRIBUTION_OF_CLASS:
        return callback_class(name, face)
    claims = [one for one in installed().names if one.name == name]
    if not claims:
        raise _not_installed(name, DISTRIBUTION_OF_NAME[name], face)
    return _loaded(face, claims, of_class=False)


def broken_names(left_alone: Collection[str] = ()) -> Iterator[tuple[Registration, ImportError]]:
    """Every registered name that cannot be had, and what whoever asks for it is told. This imports the packages.

    Args:
        left_alone: distributions that are not looked at.
    """
    registered = installed()
    faces = {name: face for face, names in PLACES.items() for name in names}
    seen = {one.name for one in (*registered.classes, *registered.names) if one.distribution in left_alone}
    for one in {one.name: one for one in registered.classes if one.name not in seen}.values():
        try:
            callback_class(one.name)
        except ImportError as error:
            yield one, error
    for one in {one.name: one for one in registered.names if one.name in faces.keys() - seen}.values():
        try:
            name_at(faces[one.name], one.name)
        except ImportError as error:
            yield one, error


def _not_installed(name: str, distribution: str, face: str) -> ImportError:
    return ImportError(
        f"{name} is in {distribution}, which is not installed, or too old to have it. Run "
        f"`pip install --upgrade {distribution}` and start Python again.",
        name=face,
    )


def _loaded(face: str, claims: Sequence[Registration], of_class: bool) -> Any:
    registration = claims[0]
    name = registration.name
    if len(claims) > 1:
        raise ImportError(
            f"{face}.{name} is claimed by {len(claims)} entry points: "
            + "; ".join(f"{one.distribution} {one.version} ({one.definition})" for one in claims)
            + f". Import it from the package that you mean, for example `from {registration.module} import {name}`, or "
            "uninstall one of them.",
            name=face,
        )
    try:
        found = load(registration)
        if of_class and not (isinstance(found, type) and issubclass(found, Callback)):
            raise TypeError(f"it is {found!r}, which is no subclass of Callback")
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"{face}.{name} cannot be imported from {registration.distribution} {registration.version} "
            f"(entry point {registration.definition}). {type(error).__name__}: {error}",
            name=face,
        ) from error
    return found


def _unknown(name: str) -> str:
    own = ("Callback", "LambdaCallback", "Order")
    close = get_close_matches(name, sorted({*own, *callback_class_names(), *DISTRIBUTION_OF_CLASS}), n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    names = ", ".join(sorted({*own, *callback_class_names()}))
    return f"{_FACE} has no {name}.{guess} Installed are: {names}."
