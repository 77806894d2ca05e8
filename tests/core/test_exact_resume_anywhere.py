"""Whatever is configured, and wherever a run is stopped: the resumed run is the uninterrupted one from there on.

HOOKLOOP_RESUME_EXAMPLES=5000 draws more examples, and other ones each time.
"""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from .interrupted import LOADERS, OPTIMIZERS, SCHEDULERS, Case, assert_goes_on, run

EXAMPLES = int(os.environ.get("HOOKLOOP_RESUME_EXAMPLES", "0"))

FEW = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
FEWER = settings(FEW, max_examples=EXAMPLES // 10 or 4)

BY_THEMSELVES = ("knows where it is", "draws when opened", "one of two knows")
IN_A_PROCESS_OF_THEIR_OWN = tuple(name for name in LOADERS if name not in BY_THEMSELVES and " of those" not in name)


@st.composite
def cases(draw: st.DrawFn, workers: bool = False) -> Case:
    """Any configuration that fits together."""
    batches, epochs = draw(st.integers(3, 6)), draw(st.integers(1, 2 if workers else 3))
    loader = draw(st.sampled_from(IN_A_PROCESS_OF_THEIR_OWN if workers else LOADERS))
    optimizer = draw(st.sampled_from(OPTIMIZERS))
    scheduler = draw(st.sampled_from(SCHEDULERS))
    if optimizer.startswith("manual") and scheduler.startswith("plateau"):
        scheduler = "plateau step"
    arguments: dict[str, Any] = {"max_epochs": epochs, "log_every_n_steps": draw(st.sampled_from([1, 1, 3]))}
    if optimizer in ("sgd", "adam"):
        arguments["accumulate_grad_batches"] = draw(st.sampled_from([1, 1, 2, 3]))
        arguments["gradient_clip_val"] = draw(st.sampled_from([None, 0.5]))
    # Each validation starts workers.
    validation = draw(st.sampled_from([0, 1] if workers else [0, 1, 1, 2]))
    if validation:
        # The shortest epoch that any of the loaders gives has two batches.
        arguments |= draw(
            st.sampled_from(
                [
                    {},
                    {"val_check_interval": 1},
                    {"val_check_interval": 2},
                    {"check_val_every_n_epoch": 2},
                    {"check_val_every_n_epoch": None, "val_check_interval": 3},
                    {"check_val_every_n_epoch": None, "val_check_interval": 5},
                    {"val_check_interval": 0.5} if loader != "stream" else {},
                ]
            )
        )
        arguments["num_sanity_val_steps"] = draw(st.sampled_from([0, 1]))
    if loader != "stream" and draw(st.booleans()):
        arguments["limit_train_batches"] = draw(st.sampled_from([2, 0.7]))
    if draw(st.integers(0, 3)) == 0:
        arguments["max_steps"] = draw(st.integers(1, batches * epochs))
    if draw(st.integers(0, 3)) == 0:
        arguments["min_epochs"] = draw(st.integers(1, epochs))
    arguments["precision"] = draw(st.sampled_from(["32-true", "32-true", "64-true", "bf16-mixed", "bf16-true"]))
    if optimizer == "lbfgs":
        arguments["precision"] = draw(st.sampled_from(["32-true", "64-true"]))
    return Case(
        loader=loader,
        batches=batches,
        workers=draw(st.sampled_from([1, 2])) if workers else 0,
        persistent=workers and draw(st.booleans()),
        validation=validation,
        optimizer=optimizer,
        scheduler=scheduler,
        frequency=draw(st.sampled_from([1, 1, 2])),
        patience=draw(st.sampled_from([None, 1, 2])),
        reloads=draw(st.sampled_from([0, 0, 1, 2])),
        arguments=arguments,
    )


def resumes_exactly(case: Case, first: float, second: float, folder: Path) -> None:
    """Stop at a share of all the calls of all hooks, resume, stop again, resume again."""
    shutil.rmtree(folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = run(case, folder / "counted").calls
        at = int(first * calls)
        straight = run(case, folder / "straight", turns=lambda number: number == at)
        for moment in straight.moments:
            note(f"stopped in {moment.hook}, call {moment.number} of {calls}")
            resumed = run(case, folder / "resumed", ckpt_path=moment.path, seed=100)
            assert_goes_on(straight, moment, resumed)
            again = int(second * resumed.calls)
            once = run(case, folder / "once", ckpt_path=moment.path, seed=101, turns=again.__eq__)
            for later in once.moments:
                note(f"and again in {later.hook}, call {later.number} of {resumed.calls}")
                twice = run(case, folder / "twice", ckpt_path=later.path, seed=102)
                assert_goes_on(once, later, twice)


SHARES = st.floats(0, 1, exclude_max=True)


@FEW
@given(cases(), SHARES, SHARES)
@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_a_run_that_is_stopped_twice_anywhere_is_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, case: Case, first: float, second: float
) -> None:
    resumes_exactly(case, first, second, tmp_path_factory.getbasetemp() / "anywhere")


@FEWER
@given(cases(workers=True), SHARES, SHARES)
@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_a_run_with_workers_that_is_stopped_twice_anywhere_is_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, case: Case, first: float, second: float
) -> None:
    resumes_exactly(case, first, second, tmp_path_factory.getbasetemp() / "with workers")
