"""A run that is stopped after any step and resumed has the same live and averaged weights, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from averaging import BATCHES, Net, Saves, StoppedError, data, same, weights
from hookloop import Callback, Trainer
from hookloop_callbacks_swa import EMAWeightAveraging, StochasticWeightAveraging

KINDS: dict[str, Callable[[], Callback]] = {
    "EMA": lambda: EMAWeightAveraging(decay=0.7, decay_warmup=9),
    "EMA that begins later": lambda: EMAWeightAveraging(decay=0.7, update_starting_at_step=7, update_every_n_steps=2),
    "SWA": lambda: StochasticWeightAveraging(0.02, 2, annealing_epochs=2, swap_for_eval=True),
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 4, 5, 8, 12, 15])
def test_a_resume_after_any_step_is_exact(
    step: int, kind: str, background: bool, trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path, ends = tmp_path / "stopped.ckpt", []
    whole = Net()
    run = trainer(KINDS[kind](), max_epochs=3)
    run.fit(whole, data(), data(1))
    run.save_checkpoint(tmp_path / "whole.ckpt")
    saves = Saves(path, "on_train_batch_end", lambda run: run.global_step == step, stop=True, background=background)
    with pytest.raises(StoppedError):
        trainer(KINDS[kind](), saves, max_epochs=3).fit(Net(), data(), data(1))

    resumed = Net()
    run = trainer(KINDS[kind](), max_epochs=3)
    run.fit(resumed, data(), data(1), ckpt_path=path)
    run.save_checkpoint(tmp_path / "resumed.ckpt")

    assert same(weights(resumed), weights(whole))
    for name in ("whole", "resumed"):
        saved: dict[str, Any] = torch.load(tmp_path / f"{name}.ckpt")
        ends.append((saved["state_dict"], saved["weights"]["averaged"]))
    assert same(ends[0][0], ends[1][0])
    assert same(ends[0][1], ends[1][1])
    assert run.global_step == 3 * BATCHES


def test_a_validation_before_the_fit_changes_nothing_of_a_resume(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path = tmp_path / "stopped.ckpt"
    whole, resumed = Net(), Net()
    trainer(KINDS["EMA"](), max_epochs=3).fit(whole, data(), data(1))
    saves = Saves(path, "on_train_batch_end", lambda run: run.global_step == 7, stop=True)
    with pytest.raises(StoppedError):
        trainer(KINDS["EMA"](), saves, max_epochs=3).fit(Net(), data(), data(1))

    run = trainer(KINDS["EMA"](), max_epochs=3)
    run.validate(resumed, data(1), ckpt_path=path, verbose=False)
    run.fit(resumed, data(), data(1), ckpt_path=path)

    assert same(weights(resumed), weights(whole))
