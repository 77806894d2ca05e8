"""Goes on in hookloop with what Lightning began, and compares the ends."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hookloop
from hookloop import Trainer
from hookloop.plugins import MixedPrecision

from .scenarios import Adversaries, Bare, Fit, Plateau, loader, of

FOLDER = Path(__file__).parent
NEWEST = FOLDER / "v2_6"

QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}

MODULES: dict[str, type[Fit]] = {
    "plateau": Plateau,
    "plateau_epoch_end": Plateau,
    "adversaries": Adversaries,
    "bf16_true": Bare,
    "f16_true": Bare,
    "scaled": Bare,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "inside_a_window": {"accumulate_grad_batches": 2, "limit_train_batches": 4},
    "validation_owed": {"val_check_interval": 2},
    "validation_done": {"val_check_interval": 2},
    "bf16_true": {"precision": "bf16-true"},
    "f16_true": {"precision": "16-true"},
}
VALIDATES = ("validation_owed", "validation_done", "plateau", "plateau_epoch_end", "callbacks")


def module_of(name: str) -> Any:
    return of(hookloop, MODULES.get(name, Fit))()


def trainer_of(name: str, **options: Any) -> Trainer:
    own = dict(OPTIONS.get(name, {}))
    if name == "scaled":
        own["plugins"] = [MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))]
    return Trainer(**{"max_epochs": 4, **QUIET, **own, **options})


def resumed(name: str, folder: Path = NEWEST, module: Any = None, **options: Any) -> tuple[Trainer, Any, list[str]]:
    """Resume a file, and train to the end that Lightning went to; with what was warned of."""
    module, trainer = module or module_of(name), trainer_of(name, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader(), loader(2) if name in VALIDATES else None, ckpt_path=folder / f"{name}.ckpt")
    return trainer, module, [str(one.message) for one in caught]


def end_in_lightning(name: str, folder: Path = NEWEST) -> dict[str, Any]:
    """What Lightning came to by itself: steps, learning rates, and the weights as lists of numbers."""
    end: dict[str, Any] = json.loads((folder / "ends.json").read_text(encoding="utf-8"))["ends"][name]
    rates = [float.fromhex(rate) for rate in end["rates"]]
    weights = {key: [float.fromhex(x) for x in values] for key, values in end["weights"].items()}
    return {**end, "rates": rates, "weights": weights}


def differences(one: Any, other: Any, tolerance: float, place: str = "file") -> list[str]:
    """Where the contents of two checkpoints differ, in words; paths of files and times are passed over.

    Args:
        one: nested dicts, lists and tensors.
        other: the same.
        tolerance: how far, relatively, numbers in tensors may be apart.
        place: what both are, for the words.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place} has {sorted(map(str, one))}, and not {sorted(map(str, other))}"]
        return [line for key in one for line in differences(one[key], other[key], tolerance, f"{place}[{key!r}]")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{place} has {len(one)} elements, and not {len(other)}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, tolerance, f"{place}[{i}]")]
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and torch.allclose(one.double(), other.double(), tolerance, tolerance)
    elif isinstance(one, float) and isinstance(other, float):
        same = one == other or abs(one - other) <= tolerance * abs(other)
    else:
        same = type(one) is type(other) and one == other
    return [] if same else [f"{place} is {one!r}, and not {other!r}"]
