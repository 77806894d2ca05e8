"""Writes the checkpoints of this folder with Lightning, and what Lightning comes to when it goes on by itself.

    python write.py FOLDER [NAME ...]

Runs where the package lightning is (or, of its older versions, pytorch_lightning), and neither imports nor needs
hookloop. With names, the other files are deleted again.
"""

import argparse
import importlib
import json
import logging
import platform
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# Beside this file, where Python looks when it runs a script.
scenarios = importlib.import_module("scenarios")
Fit, Plateau, Adversaries, Bare = scenarios.Fit, scenarios.Plateau, scenarios.Adversaries, scenarios.Bare
loader, of = scenarios.loader, scenarios.of

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def library() -> ModuleType:
    """Lightning, under whichever of its two names it is there."""
    try:
        import lightning.pytorch as pl
    except ImportError:
        import pytorch_lightning as pl
    found: ModuleType = pl
    return found


class Writer:
    """Fits, and keeps the files that a fit leaves under a name of their own."""

    def __init__(self, folder: Path) -> None:
        self.pl = library()
        self.folder = folder
        self.ends: dict[str, Any] = {}

    def fit(self, name: str, mixin: type, epochs: int = 4, val: bool = False, **options: Any) -> Any:
        """Fit to the end, and write down the weights and the learning rate that it ends with."""
        module = of(self.pl, mixin)()
        path = options.pop("ckpt_path", None)
        path = path and self.folder / f"{path}.ckpt"
        trainer = self.pl.Trainer(max_epochs=epochs, num_sanity_val_steps=0, **{**QUIET, **options})
        trainer.fit(module, loader(), loader(2) if val else None, ckpt_path=path)
        rates = [group["lr"].hex() for one in trainer.optimizers for group in one.param_groups]
        weights = {key: [x.hex() for x in value.flatten().tolist()] for key, value in module.state_dict().items()}
        self.ends[name] = {"steps": trainer.global_step, "rates": rates, "weights": weights}
        return trainer

    def callback(self, name: str, hook: str, when: Any = lambda trainer: True) -> Any:
        """A callback that saves in a hook, once."""
        path = self.folder / f"{name}.ckpt"

        def save(self: Any, trainer: Any, *arguments: Any) -> None:
            if when(trainer) and not path.exists():
                trainer.save_checkpoint(path)

        return type("Saves", (self.pl.Callback,), {hook: save})()

    def saved(self, name: str, mixin: type, hook: str, when: Any, **options: Any) -> None:
        """A fit that saves on its way, and goes on to its end."""
        others = options.pop("callbacks", [])
        quiet = {"enable_checkpointing": any(isinstance(one, self.pl.callbacks.Checkpoint) for one in others)}
        self.fit(name, mixin, callbacks=[*others, self.callback(name, hook, when)], **quiet, **options)


def write(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    w = Writer(folder)
    pl = w.pl
    checkpoint, stopping = pl.callbacks.ModelCheckpoint, pl.callbacks.EarlyStopping

    def at(epoch: int, batches: int) -> Any:
        """After so many batches of an epoch, counted from 0."""
        return lambda trainer: (trainer.current_epoch, trainer.fit_loop.batch_idx + 1) == (epoch, batches)

    w.saved("epoch_start", Fit, "on_train_epoch_start", at(2, 5))
    w.saved("epoch_end", Fit, "on_train_epoch_end", at(1, 5))
    w.saved("mid_epoch", Fit, "on_train_batch_end", at(1, 3))
    w.saved("last_batch", Fit, "on_train_batch_end", at(1, 5))
    w.saved("before_a_batch", Fit, "on_train_batch_start", at(1, 3))
    w.saved("inside_a_window", Fit, "on_train_batch_end", at(1, 3), accumulate_grad_batches=2, limit_train_batches=4)
    w.saved("validation_owed", Fit, "on_train_batch_end", at(1, 2), val=True, val_check_interval=2)
    w.saved("validation_done", Fit, "on_validation_end", at(1, 2), val=True, val_check_interval=2)
    w.saved("plateau", Plateau, "on_validation_end", at(1, 5), val=True)
    w.saved("plateau_epoch_end", Plateau, "on_train_epoch_end", at(1, 5), val=True)
    # Lightning itself leaves out the step that this file lacks.
    w.fit("plateau_epoch_end", Plateau, val=True, enable_checkpointing=False, ckpt_path="plateau_epoch_end")
    w.saved("adversaries", Adversaries, "on_train_batch_end", at(1, 3))
    if not pl.__version__.startswith("2.0."):  # which does not know them
        w.saved("bf16_true", Bare, "on_train_epoch_end", at(1, 5), precision="bf16-true")
        w.saved("f16_true", Bare, "on_train_epoch_end", at(1, 5), precision="16-true")
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=7)
        mixed = pl.plugins.MixedPrecision("16-mixed", "cpu", scaler=scaler)
        w.saved("scaled", Bare, "on_train_epoch_end", at(1, 5), plugins=[mixed])

    files = Path(tempfile.gettempdir(), "lightning_files")  # its name is in the file
    shutil.rmtree(files, ignore_errors=True)
    counting = of(pl, scenarios.Counting, "Callback")
    w.saved(
        "callbacks",
        Fit,
        "on_train_epoch_end",
        at(1, 5),
        val=True,
        callbacks=[
            checkpoint(files, monitor="val_loss", save_last=True),
            stopping("val_loss", patience=7),
            counting(),
        ],
    )

    trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, **QUIET)
    trainer.fit(
        of(pl, scenarios.Settled)(3, argparse.Namespace(rate=0.1, depth=2), Path("data/here")),
        datamodule=of(pl, scenarios.Data, "LightningDataModule")(5),
    )
    trainer.save_checkpoint(folder / "settings.ckpt")
    trainer.save_checkpoint(folder / "weights_only.ckpt", weights_only=True)
    trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, **QUIET)
    trainer.fit(of(pl, scenarios.OfOneObject)(argparse.Namespace(rate=0.25)), loader())
    trainer.save_checkpoint(folder / "one_object.ckpt")

    document = {
        "made by": "python dev.py bench lightning_files -- --record",
        "with": {"lightning": pl.__version__, "torch": torch.__version__, "machine": platform.machine()},
        "ends": w.ends,
    }
    (folder / "ends.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write(target)
    for path in target.glob("*.ckpt") if sys.argv[2:] else ():
        if path.stem not in sys.argv[2:]:
            path.unlink()
