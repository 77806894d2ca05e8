"""The rules that a callback is tried by, in the order in which they are tried."""

from collections.abc import Callable

from hookloop.testing.cost import costs_no_more_than_allowed
from hookloop.testing.declared import hooks_can_be_called, keys_tell_configurations_apart, uses_public_names_alone
from hookloop.testing.runs import Subject
from hookloop.testing.state import resumes_as_if_never_stopped, state_can_be_saved
from hookloop.testing.training import leaves_training_alone, place_does_not_matter
from hookloop.testing.unwinding import gives_back_what_it_took
from hookloop.testing.works import (
    works_in_a_fast_dev_run,
    works_in_fit,
    works_in_predict,
    works_in_test,
    works_in_validate,
    works_with_manual_optimization,
    works_with_several_loaders,
    works_without_a_logger,
    works_without_validation,
)

Rule = Callable[[Subject], float | None]

RULES: tuple[Rule, ...] = (
    hooks_can_be_called,
    uses_public_names_alone,
    works_in_fit,
    works_in_validate,
    works_in_test,
    works_in_predict,
    works_in_a_fast_dev_run,
    works_without_a_logger,
    works_with_several_loaders,
    works_with_manual_optimization,
    works_without_validation,
    keys_tell_configurations_apart,
    state_can_be_saved,
    resumes_as_if_never_stopped,
    leaves_training_alone,
    gives_back_what_it_took,
    place_does_not_matter,
    costs_no_more_than_allowed,
)
"""Each raises a CallbackContractError if the callback breaks it, and a NotTriedError if another one is in the way."""
