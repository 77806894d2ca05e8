"""Random numbers: seeding every generator, and what leaves them as they were."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule, seed_everything
from hookloop.errors import MisconfigurationError
from hookloop.random_state import LARGEST_SEED, isolated_random_state, random_state, set_random_state

from .recording import Batch, make_trainer

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
OWN_VARIABLE = "HOOKLOOP_GLOBAL_SEED"


@pytest.fixture(autouse=True)
def generators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every generator and both variables are afterwards what they were before."""
    for name in (*SEED_VARIABLES, OWN_VARIABLE):
        monkeypatch.setenv(name, "to be removed")  # so that it is put back whatever the test sets
        monkeypatch.delenv(name)
    python, numpy, torches = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(torches)


def drawn() -> tuple[float, float, float]:
    """The next number of each generator."""
    return random.random(), float(np.random.rand()), torch.rand(()).item()


# Seeding


@pytest.mark.parametrize("seed", [0, 1, 42, LARGEST_SEED])
def test_a_seed_fixes_what_every_generator_draws(seed: int) -> None:
    assert seed_everything(seed) == seed
    first = drawn()
    assert drawn() != first
    seed_everything(seed)
    assert drawn() == first
    expected = random.Random(seed).random(), float(np.random.RandomState(seed).rand())
    generator = torch.Generator().manual_seed(seed)
    assert first == (*expected, torch.rand((), generator=generator).item())


def test_other_seeds_give_other_numbers() -> None:
    seen = set()
    for seed in range(5):
        seed_everything(seed, verbose=False)
        seen.add(drawn())
    assert len(seen) == 5


def test_the_seed_is_printed_unless_it_shall_not_be(capsys: pytest.CaptureFixture[str]) -> None:
    seed_everything(7)
    assert capsys.readouterr().out == "Seed set to 7\n"
    seed_everything(7, verbose=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("workers", "value"), [({}, "0"), ({"workers": False}, "0"), ({"workers": True}, "1")])
def test_processes_that_are_launched_later_find_the_seed_in_their_environment(
    workers: dict[str, bool], value: str
) -> None:
    seed_everything(11, verbose=False, **workers)
    assert [os.environ[name] for name in SEED_VARIABLES] == ["11", value]
    assert seed_everything(verbose=False) == 11


def test_without_a_seed_the_environment_has_one_or_it_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seed_everything(verbose=False) == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "123")
    assert seed_everything(verbose=False) == 123
    assert drawn()[0] == random.Random(123).random()


@pytest.mark.parametrize("given", ["12", np.int64(12), torch.tensor(12)], ids=["text", "numpy", "torch"])
def test_a_whole_number_of_another_kind_is_a_seed_too(given: Any) -> None:
    seed = seed_everything(given, verbose=False)
    assert (seed, type(seed)) == (12, int)


@pytest.mark.parametrize(
    "given", [-1, LARGEST_SEED + 1, 2.5, float("nan"), float("inf"), "many", "", "2.5", [1]], ids=repr
)
def test_another_seed_is_refused_and_nothing_is_seeded(given: Any) -> None:
    state = random.getstate(), torch.get_rng_state().tolist()
    with pytest.raises(MisconfigurationError, match=r"^seed=.* must be a whole number from 0 to 4294967295\.$"):
        seed_everything(given)
    assert (random.getstate(), torch.get_rng_state().tolist()) == state
    assert "PL_GLOBAL_SEED" not in os.environ


def test_hookloops_own_variable_is_asked_before_lightnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    monkeypatch.setenv(OWN_VARIABLE, "2")
    assert seed_everything(verbose=False) == 2
    monkeypatch.setenv(OWN_VARIABLE, "lucky")
    with pytest.raises(MisconfigurationError, match="HOOKLOOP_GLOBAL_SEED='lucky' must be a whole number"):
        seed_everything()


def test_a_seed_that_was_passed_is_what_launched_processes_find_in_both_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OWN_VARIABLE, "2")
    seed_everything(9, verbose=False)
    assert (os.environ[OWN_VARIABLE], os.environ["PL_GLOBAL_SEED"]) == ("9", "9")
    assert seed_everything(verbose=False) == 9


def test_a_seed_in_the_environment_that_is_none_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "lucky")
    with pytest.raises(MisconfigurationError, match="PL_GLOBAL_SEED='lucky' must be a whole number"):
        seed_everything()


PROGRAM = """
import sys, torch
from hookloop import seed_everything
from hookloop.random_state import isolated_random_state, random_state
{before}
numpy_there = "numpy" in sys.modules
seed_everything(5, verbose=False)
with isolated_random_state():
    torch.rand(1)
print(numpy_there, "numpy" in sys.modules, "numpy" in random_state())
{after}
"""


def in_a_process(before: str = "", after: str = "") -> list[str]:
    # torch itself imports NumPy where it can, so here it cannot.
    hide = "import sys; sys.modules['numpy'] = None; import torch; del sys.modules['numpy']\n"
    program = hide + PROGRAM.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_numpy_is_seeded_if_it_is_loaded_and_not_loaded_to_be_seeded() -> None:
    assert in_a_process() == ["False", "False", "False"]


def test_numpy_that_is_loaded_is_seeded() -> None:
    printed = in_a_process("import numpy", "print(numpy.random.rand())")
    assert printed == ["True", "True", "True", str(np.random.RandomState(5).rand())]


# Isolation


def draw_some() -> None:
    for _ in range(3):
        drawn()
    random.shuffle([1, 2, 3])
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)


def test_what_is_drawn_in_isolation_changes_nothing_outside() -> None:
    seed_everything(1, verbose=False)
    expected = [drawn(), drawn()]
    seed_everything(1, verbose=False)
    numbers = [drawn()]
    with isolated_random_state():
        draw_some()
    numbers.append(drawn())
    assert numbers == expected


def test_isolation_begins_with_the_numbers_outside() -> None:
    seed_everything(1, verbose=False)
    expected = drawn()
    seed_everything(1, verbose=False)
    with isolated_random_state():
        assert drawn() == expected
    assert drawn() == expected


def test_isolation_ends_after_an_error_too_and_can_be_nested() -> None:
    seed_everything(1, verbose=False)
    expected = drawn()
    seed_everything(1, verbose=False)
    with pytest.raises(RuntimeError, match="planted"), isolated_random_state():
        fail_in_isolation()
    assert drawn() == expected


def fail_in_isolation() -> None:
    drawn()
    with isolated_random_state():
        draw_some()
        raise RuntimeError("planted")


def test_a_state_can_be_kept_and_given_back_many_times() -> None:
    state = random_state()
    assert set(state) - {"cuda"} == {"python", "torch", "numpy"}
    first = drawn()
    for _ in range(2):
        draw_some()
        set_random_state(state)
        assert drawn() == first


# The sanity check


class Draws(LightningModule):
    """Draws in every validation hook; writes down what training drew and in which order it saw the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.training_drew: list[tuple[float, float, float]] = []
        self.order: list[float] = []
        self.validated = 0

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.training_drew.append(drawn())
        self.order += batch[0].flatten().tolist()
        loss: torch.Tensor = self.layer(batch[0]).mean()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += 1
        draw_some()

    def on_validation_start(self) -> None:
        draw_some()

    def on_validation_epoch_end(self) -> None:
        draw_some()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def shuffled(samples: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(float(samples)).reshape(-1, 1)), shuffle=True)


def fitted(folder: Path, sanity: int) -> Draws:
    seed_everything(3, verbose=False)
    module = Draws()
    # Validation itself draws, so there is none but in the sanity check.
    trainer = make_trainer(folder, [], max_epochs=2, num_sanity_val_steps=sanity, check_val_every_n_epoch=3)
    trainer.fit(module, shuffled(8), shuffled(4))
    assert module.validated == min(sanity, 4)
    return module


@pytest.mark.parametrize("steps", [1, 4])
def test_training_draws_what_it_would_draw_without_a_sanity_check(steps: int, tmp_path: Path) -> None:
    without, checked = fitted(tmp_path, 0), fitted(tmp_path, steps)
    assert checked.order == without.order
    assert sorted(checked.order[:8]) == sorted(checked.order[8:]) == [float(sample) for sample in range(8)]
    assert checked.order[:8] != checked.order[8:]
    assert checked.training_drew == without.training_drew
    assert len(set(checked.training_drew)) == 16
    assert torch.equal(checked.layer.weight, without.layer.weight)


def test_a_sanity_check_that_fails_gives_the_random_numbers_back(tmp_path: Path) -> None:
    class Fails(Draws):
        def on_validation_epoch_end(self) -> None:
            draw_some()
            raise RuntimeError("planted")

    seed_everything(3, verbose=False)
    module = Fails()
    expected = random_numbers_after(lambda: None)
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(tmp_path, [], max_epochs=1).fit(module, shuffled(8), shuffled(4))
    assert drawn() == expected


def random_numbers_after(action: Callable[[], None]) -> tuple[float, float, float]:
    """What would be drawn after an action, without drawing it."""
    with isolated_random_state():
        action()
        return drawn()


def test_without_cuda_the_state_is_that_of_the_other_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> Any:
        raise AssertionError("a forked process must not touch CUDA")

    for name in ("is_available", "is_initialized", "get_rng_state_all", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, forbidden)
    assert set(random_state(include_cuda=False)) == {"python", "torch", "numpy"}
    expected = drawn()
    state = random_state(include_cuda=False)
    numbers = []
    with isolated_random_state(include_cuda=False):
        numbers.append(drawn())
    numbers.append(drawn())
    assert numbers[0] == numbers[1] != expected
    set_random_state(state)
    assert drawn() == numbers[0]
