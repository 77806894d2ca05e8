"""What a path says by itself: whether it is one of this machine or has a protocol, and what is below it."""

import os
import re
from contextlib import suppress
from pathlib import Path, PurePath

from hookloop.errors import MisconfigurationError

SUFFIX = ".ckpt"
"""How the names of checkpoints end; what `list_checkpoints` looks for."""

PARTIAL = ".partial"
"""How the names of files end that are being written."""

StrPath = str | os.PathLike[str]

# Two letters at least: C: is a drive.
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*)(?:::|://)")
_LOCAL = re.compile(r"(?:file|local)://")
_LOST_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


def is_remote(path: StrPath) -> bool:
    """Whether a path has a protocol (`s3://bucket/last.ckpt`) other than `file://`.

    Raises:
        MisconfigurationError: it is a pathlib.Path that was made of such a path, and has lost a slash.
    """
    text = os.fspath(path)
    if isinstance(path, PurePath):
        lost = _LOST_SLASH.match(text)
        if lost and _is_known(lost[1]):
            raise MisconfigurationError(
                f"{path!r} was made of a path with a protocol, and pathlib has taken a slash out of it. Pass it as a "
                f'string: "{lost[1]}://{text[lost.end() :]}".'
            )
        return False
    return _PROTOCOL.match(text) is not None and _LOCAL.match(text) is None


def local_path(path: StrPath) -> Path:
    """A path of this machine as a Path, without `file://`."""
    text = os.fspath(path)
    begin = _LOCAL.match(text)
    return Path(text[begin.end() :] if begin else text)


def join(folder: StrPath, name: str) -> str:
    """The path of what is called `name` in `folder`, of the same protocol."""
    if is_remote(folder):
        return f"{os.fspath(folder).rstrip('/')}/{name}"
    return os.path.join(folder, name)  # noqa: PTH118 - Path would take a slash out of file://


def protocols(path: StrPath) -> list[str]:
    """The protocols of a path, the outermost first: `simplecache::s3://...` has two."""
    found = _PROTOCOL.match(os.fspath(path))
    return found[1].lower().split("::") if found else []


def _is_known(protocol: str) -> bool:
    with suppress(ImportError):
        from fsspec.registry import known_implementations

        return protocol in known_implementations
    return False
