"""Helpers for scripts and callbacks, where Lightning's users look for them."""

import importlib
from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.batches import move_data_to_device
from hookloop.gradients import GradClipAlgorithmType, grad_norm
from hookloop.loaders.worker_count import suggested_max_num_workers
from hookloop.parsing import is_picklable
from hookloop.profilers.flops import measure_flops
from hookloop.rank_zero import rank_zero_debug, rank_zero_deprecation, rank_zero_info, rank_zero_only, rank_zero_warn
from hookloop.tied_parameters import find_shared_parameters, set_shared_parameters
from hookloop.warning_categories import disable_possible_user_warnings

if TYPE_CHECKING:
    from hookloop.hyperparameters import AttributeDict
    from hookloop.loaders.combined import CombinedLoader

__all__ = [
    "AttributeDict",
    "CombinedLoader",
    "GradClipAlgorithmType",
    "disable_possible_user_warnings",
    "find_shared_parameters",
    "grad_norm",
    "is_picklable",
    "measure_flops",
    "move_data_to_device",
    "rank_zero_debug",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "set_shared_parameters",
    "suggested_max_num_workers",
]

_HOMES = {"AttributeDict": "hookloop.hyperparameters", "CombinedLoader": "hookloop.loaders.combined"}

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise absent(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
