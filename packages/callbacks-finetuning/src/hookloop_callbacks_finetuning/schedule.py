"""A schedule of unfreezing as data: what users write, checked, and what it means for a module."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from hookloop.errors import MisconfigurationError
from hookloop.module.compiled_names import plain_names

_KEYS = ("modules", "epoch", "step", "lr", "ratio")


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """One line of a schedule.

    Attributes:
        modules: names of modules as `named_modules()` has them, with the wildcards of file names: "encoder.layer.1?",
            "*.attention". A module stands for all parameters inside it.
        epoch: index of the epoch in which they begin to learn, 0-based; None: `step` says it.
        step: optimizer steps after which they do.
        lr: the rate of their parameter group; None: that of the optimizer's first group then, times `ratio`.
        ratio: see there; None: as the callback's `rate_decay` has it.
    """

    modules: tuple[str, ...]
    epoch: int | None = None
    step: int | None = None
    lr: float | None = None
    ratio: float | None = None

    def __str__(self) -> str:
        when = f"epoch {self.epoch}" if self.step is None else f"step {self.step}"
        return f"{', '.join(self.modules)} ({when})"


def parse(schedule: object) -> tuple[Unfreeze, ...]:
    """A schedule from what users write.

    Args:
        schedule: `Unfreeze`s or dicts of their fields in a sequence, or a mapping from epochs to names.

    Raises:
        MisconfigurationError: it is nothing of this kind, it is empty, or a value is out of range.
    """
    if isinstance(schedule, Mapping):
        lines: list[object] = [{"modules": modules, "epoch": epoch} for epoch, modules in schedule.items()]
    elif isinstance(schedule, Sequence) and not isinstance(schedule, str):
        lines = list(schedule)
    else:
        raise MisconfigurationError(
            f"GradualUnfreezing(schedule={schedule!r}): a schedule is a dict from epochs to names of modules, "
            '{3: "encoder.layer.1*", 6: ["encoder.layer.0", "encoder.embeddings"]}, or a list of dicts, '
            '[{"modules": "encoder.*", "step": 500, "lr": 1e-4}].'
        )
    if not lines:
        raise MisconfigurationError(
            "GradualUnfreezing(schedule) is empty: name at least one module to freeze at first."
        )
    return tuple(_line(one) for one in lines)


def _line(given: object) -> Unfreeze:
    if isinstance(given, Unfreeze):
        given = {name: getattr(given, name) for name in _KEYS}
    if not isinstance(given, Mapping):
        raise _wrong(given, f"a line is a dict with some of {', '.join(_KEYS)}")
    for key in given:
        if key not in _KEYS:
            close = get_close_matches(str(key), _KEYS, n=1)
            meant = f'. Did you mean "{close[0]}"?' if close else ""
            raise _wrong(given, f"{key!r} is not known, and {', '.join(_KEYS)} are{meant}")
    modules: Any = given.get("modules")
    names = (modules,) if isinstance(modules, str) else modules
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        raise _wrong(given, '"modules" must be a name of a module, with wildcards if you like, or a list of names')
    epoch, step = given.get("epoch"), given.get("step")
    if (epoch is None) == (step is None):
        raise _wrong(given, 'it needs one of "epoch" and "step", and not both')
    when = epoch if step is None else step
    if isinstance(when, bool) or not isinstance(when, int) or when < 0:
        raise _wrong(given, '"epoch" and "step" are whole numbers of at least 0')
    lr, ratio = given.get("lr"), given.get("ratio")
    if lr is not None and ratio is not None:
        raise _wrong(given, 'it has "lr" and "ratio", and one of them says the rate')
    for value in (lr, ratio):
        if value is not None and not is_positive(value):
            raise _wrong(given, '"lr" and "ratio" are numbers above 0')
    return Unfreeze(tuple(names), epoch, step, lr, ratio)


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _wrong(given: object, why: str) -> MisconfigurationError:
    return MisconfigurationError(f"GradualUnfreezing(schedule): {given!r} cannot be a line of it: {why}.")


def parts_of(module: nn.Module, schedule: Sequence[Unfreeze]) -> list[dict[str, nn.Module]]:
    """The modules that each line of a schedule names, by name; none that lies inside of another one of its line.

    Raises:
        MisconfigurationError: a name matches nothing, or nothing that has parameters, or two lines hold the same
            parameter.
    """
    known = plain_names({name: part for name, part in module.named_modules() if name})
    named = [_matched(module, known, line) for line in schedule]
    holders: dict[int, tuple[int, str]] = {}
    for index, parts in enumerate(named):
        for name, part in parts.items():
            for inner, parameter in part.named_parameters():
                whole = f"{name}.{inner}".replace("_orig_mod.", "")
                first, known_as = holders.setdefault(id(parameter), (index, whole))
                if first != index:
                    alias = "" if known_as == whole else f" (which is {known_as} too)"
                    raise MisconfigurationError(
                        f"GradualUnfreezing(schedule): {whole}{alias} is unfrozen by two lines, {schedule[first]} and "
                        f"{schedule[index]}. A parameter has one rate: let one line alone match it."
                    )
    return named


def _matched(module: nn.Module, known: Mapping[str, nn.Module], line: Unfreeze) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for pattern in line.modules:
        matches = {name: part for name, part in known.items() if fnmatchcase(name, pattern)}
        if not any(next(part.parameters(), None) is not None for part in matches.values()):
            with_parameters = [name for name, part in known.items() if next(part.parameters(), None) is not None]
            close = get_close_matches(pattern, with_parameters, n=1)
            what = "no module" if not matches else f"{', '.join(matches)} alone, which has no parameters"
            raise MisconfigurationError(
                f"GradualUnfreezing(schedule): {pattern!r} matches {what}."
                + (f" Did you mean {close[0]!r}?" if close else "")
                + f" Modules of {type(module).__name__} with parameters are: {', '.join(with_parameters) or 'none'}."
            )
        found |= matches
    return {name: part for name, part in found.items() if not any(name.startswith(f"{one}.") for one in found)}
