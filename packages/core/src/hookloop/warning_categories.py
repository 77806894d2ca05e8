"""The categories of warnings that users may want to switch off, and how."""

import re
import sys
import warnings


class PossibleUserWarning(UserWarning):
    """Something looks like a mistake and may be meant: the run goes on."""


class HookloopDeprecationWarning(DeprecationWarning):
    """Something will be removed; unlike Python's own category, it is shown wherever it is raised."""


# Lightning's users filter by this name.
LightningDeprecationWarning = HookloopDeprecationWarning

# Python hides deprecations that are raised outside of __main__, and those who could act on them would not see them.
if not sys.warnoptions:  # who has said `python -W ...` has decided
    warnings.simplefilter("default", category=HookloopDeprecationWarning)


def disable_possible_user_warnings(module: str = "") -> None:
    """Show no `PossibleUserWarning` any more; `warnings.filterwarnings` can do the same in finer grain.

    Args:
        module: only those that point at lines of this module or of modules below it, such as "my_project"; "" is all.
    """
    pattern = rf"{re.escape(module)}(\.|$)" if module else ""
    warnings.filterwarnings("ignore", category=PossibleUserWarning, module=pattern)
