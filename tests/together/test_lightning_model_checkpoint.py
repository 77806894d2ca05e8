"""A fit that Lightning began goes on with hookloop's ModelCheckpoint, which knows what Lightning's had saved."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule, Trainer
from hookloop_callbacks_checkpoint import ModelCheckpoint

FILE = Path(__file__).parents[1] / "core" / "lightning_files" / "v2_6" / "callbacks.ckpt"


class Net(LightningModule):
    """As the file's: see tests/core/lightning_files/scenarios.py."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def test_model_checkpoint_goes_on_with_the_best_file_of_lightnings(tmp_path: Path) -> None:
    checkpoint = torch.load(FILE)
    [state] = [state for key, state in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint")]
    best = tmp_path / "best.ckpt"
    best.write_bytes(FILE.read_bytes())
    score = torch.tensor(1e-9)  # nothing will be better
    state |= {"best_model_path": str(best), "best_k_models": {str(best): score}, "best_model_score": score}
    state |= {"kth_best_model_path": str(best), "kth_value": score, "dirpath": str(tmp_path)}
    torch.save(checkpoint, tmp_path / "begun.ckpt")
    callback = ModelCheckpoint(tmp_path, monitor="val_loss")
    trainer = Trainer(max_epochs=4, callbacks=[callback], logger=False, enable_progress_bar=False)
    data = DataLoader(TensorDataset(torch.ones(4, 2), torch.ones(4, 1)), batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Net(), data, data, ckpt_path=tmp_path / "begun.ckpt")
    assert Path(callback.best_model_path) == best
    assert callback.best_model_score is not None
    assert float(callback.best_model_score) == score.item()
    assert best.exists()
