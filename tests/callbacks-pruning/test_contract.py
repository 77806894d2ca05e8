"""The callback of this package keeps the contract for callbacks."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from hookloop import Callback
from hookloop.testing import CallbackContract
from hookloop_callbacks_pruning import ModelPruning, SparsityRamp


class OfPruning(CallbackContract):
    changes_training = True


class TestModelPruning(OfPruning):
    def callback(self) -> Callback:
        return ModelPruning("l1_unstructured", amount=0.3)


class TestModelPruningOfOneOfTwoParts(OfPruning):
    def callback(self) -> Callback:
        return ModelPruning("l1_unstructured", ["net.0.weight"], amount=0.3)

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [lambda: ModelPruning("random_unstructured", ["net.4.weight"], amount=0.3)]


class TestModelPruningWithoutRewinding(OfPruning):
    def callback(self) -> Callback:
        return ModelPruning("random_unstructured", ["net.?.weight"], amount=0.3, use_lottery_ticket_hypothesis=False)


class TestModelPruningThatStays(OfPruning):
    # weight becomes weight_orig; torch's hook computes weight before each forward pass.
    lasting: ClassVar[list[str]] = ["*.hooks", "*.weight.requires_grad", "*.weight_orig.requires_grad"]

    def callback(self) -> Callback:
        return ModelPruning("l1_unstructured", ["net.0.weight"], amount=3, make_pruning_permanent=False)


class TestModelPruningOfChannels(OfPruning):
    def callback(self) -> Callback:
        return ModelPruning(
            *("ln_structured", ["net.0.weight"]),
            use_global_unstructured=False,
            amount=2,
            pruning_dim=0,
            pruning_norm=2,
            prune_on_train_epoch_end=False,
            resample_parameters=True,
        )


class TestModelPruningAlongARamp(OfPruning):
    def callback(self) -> Callback:
        ramp = SparsityRamp(0.8, end=12, begin=2)
        return ModelPruning(
            "l1_unstructured", amount=ramp, every_n_steps=2, use_lottery_ticket_hypothesis=lambda step: step < 4
        )
