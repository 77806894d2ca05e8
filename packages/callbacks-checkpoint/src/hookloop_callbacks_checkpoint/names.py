"""`FileName`: a template for the names of checkpoint files, and what a file system takes as a name."""

import os
import re
import string
from collections.abc import Mapping
from typing import SupportsFloat

from hookloop.errors import MisconfigurationError

SUFFIX = ".ckpt"
LONGEST = 255
"""Bytes that a file system allows for one name, in UTF-8."""

_COUNTERS = ("epoch", "step")
_EXAMPLE = 'For example filename="{epoch}-{val_loss:.2f}".'
_ROOM = len("-v999")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_METRIC_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_NOT_ON_WINDOWS = re.compile(r'[:*?"<>|\\]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


class FileName:
    """A template with fields in braces: `{epoch}`, `{step}` and the names of metrics, each perhaps with a format.

    A field stands for its name and its value: "{epoch}-{val_loss:.2f}" gives "epoch=3-val_loss=0.12". What no file
    system takes in the name of a metric, "/" above all, becomes "_". Doubled braces stand for themselves. A "/" in the
    template itself makes folders: "sub/{epoch}".

    Args:
        template: see above; a suffix `suffix` may be given or not.
        insert_names: False puts the values alone: "{epoch}" gives "3".
        equals: stands between name and value.
        suffix: what the names of files end with.

    Attributes:
        metrics: the metrics that the template names.

    Raises:
        MisconfigurationError: braces that do not match, a field without a name, a format that numbers do not know, or
            a name that no file system takes, or that leads out of the folder.
    """

    def __init__(self, template: str, insert_names: bool = True, equals: str = "=", suffix: str = SUFFIX) -> None:
        if not isinstance(template, str):
            raise MisconfigurationError(f"filename={template!r} must be a text, or None for the default. {_EXAMPLE}")
        self._template = template
        self._suffix = suffix
        try:
            parts = list(string.Formatter().parse(template.removesuffix(suffix) if suffix else template))
        except ValueError as error:
            raise MisconfigurationError(
                f"filename={template!r} has braces that do not match: {error}. {_EXAMPLE}"
            ) from error
        for _, name, spec, conversion in parts:
            if name is None:
                continue
            if not name or conversion:
                raise MisconfigurationError(
                    f"filename={template!r} has a field that is neither epoch, step nor the name of a metric, with or "
                    f"without a format. {_EXAMPLE}"
                )
            try:
                shown = format(0 if name in _COUNTERS else 0.0, spec or "")
            except ValueError as error:
                raise MisconfigurationError(
                    f"filename={template!r}: the format {spec!r} of {name!r} does not fit a number: {error}. {_EXAMPLE}"
                ) from error
            if "/" in shown or os.sep in shown:
                raise MisconfigurationError(
                    f"filename={template!r}: the format {spec!r} of {name!r} puts {shown!r} into the name, and a "
                    f"separator of folders has no place in a number. {_EXAMPLE}"
                )
        self._parts = [
            (text, name, _NOT_IN_METRIC_NAMES.sub("_", name) + equals if insert_names and name else "", spec or "")
            for text, name, spec, _ in parts
        ]
        self.metrics = tuple(dict.fromkeys(name for _, name, _, _ in self._parts if name and name not in _COUNTERS))
        self.fill_in(0, 0, dict.fromkeys(self.metrics, 0.0))  # what no value can mend is said now

    def fill_in(self, epoch: int, step: int, metrics: Mapping[str, SupportsFloat]) -> str:
        """The name of a file, without a suffix; folders in it are separated by "/".

        Args:
            epoch: index of the epoch, 0-based.
            step: optimizer steps.
            metrics: what was logged; only what the template names is converted to a number.

        Raises:
            MisconfigurationError: a metric of the template was never logged; the message lists what was. Or no file
                system takes the name.
        """
        counters = {"epoch": epoch, "step": step}
        filled = ""
        for text, name, shown, spec in self._parts:
            filled += text
            if name is None:
                continue
            if name in counters:
                value: int | float = counters[name]
            elif name in metrics:
                value = float(metrics[name])
            else:
                logged = ", ".join(map(repr, sorted(metrics))) or "nothing at all"
                raise MisconfigurationError(
                    f"filename={self._template!r} names {name!r}, which was not logged; logged until now: {logged}. "
                    f"Log it with self.log({name!r}, ...), or name one of those, epoch or step."
                )
            filled += f"{shown}{value:{spec}}"
        if (wrong := what_is_wrong(filled, self._suffix)) is not None:
            raise MisconfigurationError(f"filename={self._template!r} gives the name {filled!r}: {wrong}. {_EXAMPLE}")
        return filled


def what_is_wrong(name: str, suffix: str = SUFFIX, windows: bool = os.name == "nt") -> str | None:
    """Why a file system would refuse a name; None if it would not.

    Args:
        name: relative to the folder of the checkpoints; "/" separates folders.
        suffix: follows the name.
        windows: whether the rules of Windows hold, which knows more separators, and devices by name.
    """
    parts = name.split("/")
    if name.startswith("/") or (windows and re.match(r"[A-Za-z]:", name)):
        return "it is absolute, and the folder is what dirpath says"
    if ".." in parts:
        return 'it leads out of the folder by ".."; choose another dirpath instead'
    if not all(part.strip() for part in parts):
        return "a part of it is empty"
    for part in parts:
        if _CONTROL.search(part):
            return "it holds a control character"
        if windows and (found := _NOT_ON_WINDOWS.search(part)):
            return f"Windows allows no {found[0]!r} in names"
        if windows and (_DEVICES.fullmatch(part) or part != part.rstrip(". ")):
            return f"Windows does not take {part!r} as a name"
    longest = [*parts[:-1], f"{parts[-1]}{'x' * _ROOM}{suffix}"]
    try:
        size = max(len(part.encode()) for part in longest)
    except UnicodeEncodeError:
        return "it holds a character that has no UTF-8"
    if size > LONGEST:
        return f"with suffix and version it may have {size} bytes, and file systems allow {LONGEST}"
    return None
