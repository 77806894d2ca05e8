"""Numbered folders of runs: version_0, version_1, ..."""

import re
from pathlib import Path

_NUMBERED = re.compile(r"version_([0-9]+)")


def next_version(root: Path) -> int:
    """The number after the highest that exists in the folder `root`; 0 where none can be seen. Nothing is created.

    Gaps stay gaps: the number of a deleted run does not come back while a later run exists.
    """
    try:
        names = [path.name for path in root.iterdir()]
    except OSError:
        return 0  # whoever makes a folder there learns what is wrong
    matches = (_NUMBERED.fullmatch(name) for name in names)
    return max((int(match[1]) for match in matches if match), default=-1) + 1
