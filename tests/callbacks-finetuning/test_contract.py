"""The callbacks of this package keep the contract for callbacks."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from hookloop import Callback, LightningModule
from hookloop.testing import CallbackContract, TinyModule
from hookloop_callbacks_finetuning import BackboneFinetuning, BaseFinetuning, GradualUnfreezing


class WithBackbone(TinyModule):
    """A TinyModule whose network is a backbone with a head; what learns from the beginning is in the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = self.net[:3], self.net[3:]
        del self.net

    def forward(self, batch: Any) -> Tensor:
        answers: Tensor = self.head(self.backbone(batch if isinstance(batch, Tensor) else _first(batch)))
        return answers

    def configure_optimizers(self) -> Any:
        learns = [one for one in self.parameters() if one.requires_grad]
        optimizer = torch.optim.Adam(learns, lr=0.05, weight_decay=0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)]


def _first(batch: Any) -> Tensor:
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return batch


class UnfreezesTheNet(BaseFinetuning):
    """As a user writes one, of a module that does not leave anything out of its optimizer."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(pl_module.get_submodule("net.0"))

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        if epoch == 1:
            self.make_trainable(pl_module.get_submodule("net.0"))


class OfFinetuning(CallbackContract):
    changes_training = True
    lasting: ClassVar[list[str]] = ["*.requires_grad"]
    max_calls_per_step: ClassVar[float | None] = 0

    def module(self) -> LightningModule:
        return WithBackbone()


class TestBaseFinetuning(OfFinetuning):
    def callback(self) -> Callback:
        return UnfreezesTheNet()

    def module(self) -> LightningModule:
        return TinyModule()


class TestBackboneFinetuning(OfFinetuning):
    def callback(self) -> Callback:
        return BackboneFinetuning(unfreeze_backbone_at_epoch=1)


class TestBackboneFinetuningWithoutItsBatchNorms(OfFinetuning):
    def callback(self) -> Callback:
        return BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=False)


class TestGradualUnfreezing(OfFinetuning):
    def callback(self) -> Callback:
        return GradualUnfreezing({1: "backbone.1", 2: "backbone.0"})


class TestGradualUnfreezingBySteps(OfFinetuning):
    max_calls_per_step = None  # of steps after an unfreezing: an optimizer with three groups makes more calls itself

    def callback(self) -> Callback:
        return GradualUnfreezing(
            [{"modules": "backbone.0", "step": 6}, {"modules": "backbone.1", "step": 3, "lr": 0.01}]
        )
