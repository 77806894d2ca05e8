"""`TrainerOptions`: what the user passed to the Trainer, frozen, as callback factories may read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hookloop.callback import Callback


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerOptions:
    """The Trainer's arguments as they were passed: defaults where nothing was, nothing resolved.

    A factory reads it to decide what to return: a progress bar for nobody who said `enable_progress_bar=False`.
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | timedelta | dict[str, int] | None = None
    accelerator: Any = "auto"
    devices: Any = "auto"
    strategy: Any = "auto"
    num_nodes: int = 1
    sync_batchnorm: bool = False
    precision: Any = None
    callbacks: tuple[Callback, ...] = ()
    logger: Any = None
    default_root_dir: Any = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    log_every_n_steps: int = 50
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    limit_test_batches: int | float = 1.0
    limit_predict_batches: int | float = 1.0
    val_check_interval: int | float | str | timedelta | dict[str, int] = 1.0
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int = 2
    fast_dev_run: bool | int = False
    inference_mode: bool = True
    deterministic: bool | str | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    overfit_batches: int | float = 0.0
    reload_dataloaders_every_n_epochs: int = 0
    use_distributed_sampler: bool = True
    profiler: Any = None
    plugins: Any = None
    registered_callbacks: bool | Sequence[str] = True
    on_interrupt: str = "raise"
