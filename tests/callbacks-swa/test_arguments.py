"""Arguments that are not allowed are refused when a callback is made, and averagers that cannot share a run by name."""

from collections.abc import Callable
from typing import Any

import pytest

from averaging import Net, data
from hookloop import Callback, Trainer
from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop_callbacks_swa import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

Make = Callable[..., Trainer]


def no_average(*tensors: Any) -> Any:
    """Has the form of an average, and is never called."""


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (WeightAveraging, {"device": "gpu"}, r"\(device='gpu'\) is no device. Give one, such as \"cpu\" or \"cuda:0\""),
        (WeightAveraging, {"device": 1.5}, r"\(device=1.5\) is no device"),
        (WeightAveraging, {"use_buffers": 1}, r"\(use_buffers=1\) must be True or False"),
        (WeightAveraging, {"swap_for_eval": "no"}, r"\(swap_for_eval='no'\) must be True or False"),
        (WeightAveraging, {"bn_batches": -1}, r"\(bn_batches=-1\) must be a whole number of at least 0: batches of a"),
        (WeightAveraging, {"avg_fn": 0.9}, r"\(avg_fn=0.9\) cannot be called. Give a function in the form that"),
        (
            WeightAveraging,
            {"avg_fn": no_average, "multi_avg_fn": no_average},
            r" got avg_fn and multi_avg_fn, and there is one average. Pass one",
        ),
        (EMAWeightAveraging, {"decay": 1.1}, r"\(decay=1.1\) must be a number from 0 to 1: the part of the average"),
        (EMAWeightAveraging, {"decay": float("nan")}, r"\(decay=nan\) must be a number from 0 to 1"),
        (EMAWeightAveraging, {"decay": "0.9"}, r"\(decay='0.9'\) must be a number from 0 to 1"),
        (EMAWeightAveraging, {"decay": True}, r"\(decay=True\) must be a number from 0 to 1"),
        (EMAWeightAveraging, {"half_life": 0}, r"\(half_life=0\) must be above 0: optimizer steps after which"),
        (EMAWeightAveraging, {"decay": 0.9, "half_life": 5}, r" got decay=0.9 and half_life=5, .* Pass one"),
        (EMAWeightAveraging, {"decay_warmup": -1}, r"\(decay_warmup=-1\) must be a number of at least 0"),
        (
            EMAWeightAveraging,
            {"update_every_n_steps": 0},
            r"\(update_every_n_steps=0\) must be a whole number of at le",
        ),
        (EMAWeightAveraging, {"update_starting_at_step": 0.5}, r"\(update_starting_at_step=0.5\) must be a whole numb"),
        (EMAWeightAveraging, {"update_starting_at_epoch": -2}, r"\(update_starting_at_epoch=-2\) must be a whole numb"),
        (StochasticWeightAveraging, {"swa_lrs": 0}, r"\(swa_lrs=0\) must be above 0: a learning rate for all"),
        (StochasticWeightAveraging, {"swa_lrs": []}, r"\(swa_lrs=\[\]\) is empty: give a learning rate for all"),
        (StochasticWeightAveraging, {"swa_lrs": [0.1, -1]}, r"\(swa_lrs=-1\) must be a number of at least 0"),
        (StochasticWeightAveraging, {"swa_lrs": "0.1"}, r"\(swa_lrs='0.1'\) must be a number of at least 0"),
        (
            StochasticWeightAveraging,
            {"swa_epoch_start": 0},
            r"\(swa_epoch_start=0\) must be a whole number of at least 1",
        ),
        (StochasticWeightAveraging, {"swa_epoch_start": 1.5}, r"\(swa_epoch_start=1.5\) must be a number from 0 to 1"),
        (StochasticWeightAveraging, {"annealing_epochs": -1}, r"\(annealing_epochs=-1\) must be a whole number"),
        (StochasticWeightAveraging, {"annealing_steps": 1.0}, r"\(annealing_steps=1.0\) must be a whole number"),
        (
            StochasticWeightAveraging,
            {"annealing_strategy": "cosine"},
            r"\(annealing_strategy='cosine'\): use \"cos\" or",
        ),
        (StochasticWeightAveraging, {"update_every_n_steps": 0}, r"\(update_every_n_steps=0\) must be a whole number"),
    ],
)
def test_what_is_not_allowed_is_told_when_the_callback_is_made(
    kind: type[Callback], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=f"^{kind.__name__}{message}"):
        kind(**given)


@pytest.mark.parametrize("other", [WeightAveraging, EMAWeightAveraging, StochasticWeightAveraging])
def test_two_averagers_in_a_run_are_refused_before_it_begins(other: type[Callback], trainer: Make) -> None:
    message = rf"EMAWeightAveraging .*cannot be in a run with .*{other.__name__}|{other.__name__} .*EMAWeightAveraging"
    with pytest.raises(MisconfigurationError, match=message):
        trainer(EMAWeightAveraging(), other())


def test_pruning_beside_an_average_is_refused_wherever_its_package_defines_it(trainer: Make) -> None:
    # The class of the other family by its name: the package need not be here.
    pruning = type("ModelPruning", (Callback,), {"__module__": "hookloop_callbacks_pruning.model_pruning"})

    with pytest.raises(MisconfigurationError, match=r"EMAWeightAveraging .* cannot be in a run with ModelPruning"):
        trainer(pruning(), EMAWeightAveraging())


def test_a_state_without_its_averages_is_refused_before_anything_is_trained(trainer: Make, tmp_path: Any) -> None:
    import torch

    run = trainer(EMAWeightAveraging(), max_epochs=1)
    run.fit(Net(), data())
    run.save_checkpoint(tmp_path / "whole.ckpt")
    saved = torch.load(tmp_path / "whole.ckpt")
    del saved["weights"]
    torch.save(saved, tmp_path / "without.ckpt")
    module = Net()

    with pytest.raises(
        CheckpointError, match=r"that 5 weights were averaged, and the checkpoint has no weights \"aver"
    ):
        trainer(EMAWeightAveraging(), max_epochs=2).fit(module, data(), ckpt_path=tmp_path / "without.ckpt")
    assert module.rates == []


def test_averages_of_another_shape_are_refused_with_the_tensors_name(trainer: Make, tmp_path: Any) -> None:
    import torch

    run = trainer(EMAWeightAveraging(), max_epochs=1)
    run.fit(Net(), data())
    run.save_checkpoint(tmp_path / "whole.ckpt")
    saved = torch.load(tmp_path / "whole.ckpt")
    saved["weights"]["averaged"]["net.3.weight"] = torch.zeros(2, 6)
    torch.save(saved, tmp_path / "other.ckpt")

    with pytest.raises(CheckpointError, match=r"average of net.3.weight has the shape \(2, 6\), .* has \(1, 6\)"):
        trainer(EMAWeightAveraging(), max_epochs=2).fit(Net(), data(), ckpt_path=tmp_path / "other.ckpt")
