"""Scripts for Lightning, with the root of their imports changed, give what they gave on Lightning.

recorded.json holds what Lightning computed, and on which versions; `python dev.py bench migrated` runs both again, side
by side. Where torch and the C library are those of the recording, results are the same bit for bit. Elsewhere a sum may
be rounded in another way, which some steps of training turn into the fourth digit at most.
"""

import json
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from .comparing import FOLDER, RECORDED, SCRIPTS, UNEVEN, UNEVEN_SCALED, differences, result_of, where
from .run import moved

DOCUMENT = json.loads(RECORDED.read_text(encoding="utf-8"))
LIGHTNING: dict[str, dict[str, Any]] = DOCUMENT["results"]
TOLERANCE = 0.0 if where().items() <= DOCUMENT["with"].items() else 1e-3

Result = dict[str, Any]


@pytest.fixture(scope="module")
def on_hookloop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """Runs a script, with its arguments, on hookloop; each one once."""
    return cache(lambda script: result_of(script, "hookloop", tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_gives_what_it_gave_on_lightning(script: str, on_hookloop: Callable[[str], Result]) -> None:
    assert list(differences(on_hookloop(script), LIGHTNING[script], TOLERANCE)) == []


def test_a_short_last_window_is_scaled_by_its_size_as_a_script_on_lightning_has_to_do_itself(
    on_hookloop: Callable[[str], Result],
) -> None:
    assert list(differences(on_hookloop(UNEVEN), LIGHTNING[UNEVEN_SCALED], TOLERANCE)) == []


def test_lightning_halves_the_gradient_of_a_window_with_half_of_the_batches(
    on_hookloop: Callable[[str], Result],
) -> None:
    first, second, short = (float.fromhex(norm) for norm in on_hookloop(UNEVEN)["gradient_norms"][:3])
    theirs = [float.fromhex(norm) for norm in LIGHTNING[UNEVEN]["gradient_norms"][:3]]

    # The third step is the first one with another gradient; until then the weights are the same.
    assert theirs == pytest.approx([first, second, short / 2], rel=TOLERANCE, abs=0.0)


def test_an_epochs_mean_is_that_of_its_batches_in_float64(on_hookloop: Callable[[str], Result]) -> None:
    result = on_hookloop("language_model")
    losses = [float.fromhex(loss) for loss in result["val_batches"]]
    sizes = (16, 16, 8)

    expected = [
        _in_float32(sum(loss * size for loss, size in zip(losses[at : at + 3], sizes, strict=True)) / sum(sizes))
        for at in range(0, len(losses), 3)
    ]
    assert [mean for _, mean in result["val_loss"]] == expected


def _in_float32(number: float) -> float:
    [rounded] = struct.unpack("f", struct.pack("f", number))
    return float(rounded)


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_but_the_root_of_imports_is_changed(script: str) -> None:
    before = (FOLDER / f"{script}.py").read_text(encoding="utf-8")
    after = moved(before, "hookloop")

    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed
    assert all(old.startswith(("import ", "from ")) for old, _ in changed)
    assert all(new.split()[1].split(".")[0] == "hookloop" for _, new in changed)
    assert not any(line.startswith(("import ", "from ")) and "lightning" in line for line in after.splitlines())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import lightning as L", "import hookloop as L"),
        ("import lightning.pytorch as pl", "import hookloop as pl"),
        ("import pytorch_lightning as pl", "import hookloop as pl"),
        ("from lightning.pytorch.callbacks import Callback", "from hookloop.callbacks import Callback"),
        ("from pytorch_lightning import Trainer", "from hookloop import Trainer"),
        ("import my_lightning.pytorch_tools", "import my_lightning.pytorch_tools"),
    ],
)
def test_every_way_to_import_lightning_is_changed(before: str, after: str) -> None:
    assert moved(before, "hookloop") == after


@pytest.mark.parametrize(
    ("given", "expected", "tolerance", "words"),
    [
        ({"loss": ["0x1.8p+0"]}, {"loss": ["0x1.8000000000001p+0"]}, 0.0, "result['loss'][0] is '0x1.8p+0', and not"),
        ({"loss": ["0x1.8p+0"]}, {"loss": ["0x1.9p+0"]}, 1e-3, "result['loss'][0] is '0x1.8p+0', and not '0x1.9p+0'"),
        ([1], [1, 2], 1e-3, "result has 1 elements, and not 2"),
        ({"a": 1}, {"b": 1}, 1e-3, "result has ['a'], and not ['b']"),
        (1.0, 1.00001, 0.0, "result is 1.0, and not 1.00001"),
        (1, 2, 1e-3, "result is 1, and not 2"),
        ("epoch=1", "epoch=2", 1e-3, "result is 'epoch=1', and not 'epoch=2'"),
        ("0x1.8p+0", None, 1e-3, "result is '0x1.8p+0', and not None"),
    ],
)
def test_what_differs_is_found(given: Any, expected: Any, tolerance: float, words: str) -> None:
    [found] = differences(given, expected, tolerance)

    assert found.startswith(words)


def test_numbers_within_the_tolerance_are_the_same() -> None:
    assert list(differences(["0x1.8p+0", 0.1], ["0x1.8001p+0", 0.1 + 1e-9], 1e-3)) == []
