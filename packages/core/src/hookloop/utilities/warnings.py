"""Categories of warnings, where Lightning's users look for them."""

from hookloop.warning_categories import PossibleUserWarning, disable_possible_user_warnings

__all__ = ["PossibleUserWarning", "disable_possible_user_warnings"]
