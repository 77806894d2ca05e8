"""`FileName`: a template for the names of checkpoint files."""

import string
from collections.abc import Mapping
from typing import SupportsFloat

from hookloop.errors import MisconfigurationError

SUFFIX = ".ckpt"

_COUNTERS = ("epoch", "step")
_EXAMPLE = 'For example filename="{epoch}-{val_loss:.2f}".'


class FileName:
    """A template with fields in braces: `{epoch}`, `{step}` and the names of metrics, each perhaps with a format.

    A field stands for its name and its value: "{epoch}-{val_loss:.2f}" gives "epoch=3-val_loss=0.12". A "/" in the name
    of a metric becomes "_", so that no folder comes of it. Doubled braces stand for themselves.

    Args:
        template: see above; a suffix ".ckpt" may be given or not.

    Raises:
        MisconfigurationError: braces that do not match, a field without a name, or a format that numbers do not know.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        try:
            parts = list(string.Formatter().parse(template.removesuffix(SUFFIX)))
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
                format(0 if name in _COUNTERS else 0.0, spec or "")
            except ValueError as error:
                raise MisconfigurationError(
                    f"filename={template!r}: the format {spec!r} of {name!r} does not fit a number: {error}. {_EXAMPLE}"
                ) from error
        self._parts = [(text, name, spec or "") for text, name, spec, _ in parts]

    def fill_in(self, epoch: int, step: int, metrics: Mapping[str, SupportsFloat]) -> str:
        """The name of a file, without a suffix.

        Args:
            epoch: index of the epoch, 0-based.
            step: optimizer steps.
            metrics: what was logged; only what the template names is converted to a number.

        Raises:
            MisconfigurationError: a metric of the template was never logged; the message lists what was.
        """
        counters = {"epoch": epoch, "step": step}
        name_of_file = ""
        for text, name, spec in self._parts:
            name_of_file += text
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
            name_of_file += f"{name.replace('/', '_')}={value:{spec}}"
        return name_of_file
