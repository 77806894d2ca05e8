"""Arguments that the Trainer does not have, and what to use in their place.

They come from Lightning, of now and of earlier versions, and from what other libraries call the same thing.
"""

_DEVICES = 'Choose the kind of device with accelerator ("cpu", "cuda") and how many with devices.'
_BATCHES = "Give limit_train_batches, limit_val_batches or limit_test_batches a fraction or a number of batches."
_CHECKPOINTS = (
    "Pass a checkpoint callback in callbacks (from hookloop.callbacks import ModelCheckpoint), or switch the default "
    "one off with enable_checkpointing=False."
)
_BAR = (
    "Pass a progress bar in callbacks (from hookloop.callbacks import TQDMProgressBar; TQDMProgressBar(refresh_rate="
    "..., process_position=...)), or switch it off with enable_progress_bar=False."
)
_EARLY = "Pass an EarlyStopping callback in callbacks."
_SUMMARY = "Use enable_model_summary, or pass a ModelSummary callback in callbacks."
_PRECISION = 'Use precision: "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true" or "64-true".'
_TUNER = "Use a callback that finds it, LearningRateFinder or BatchSizeFinder, in callbacks."
_STRATEGY = 'Use strategy ("auto"); today hookloop trains on one device.'
_OPTIMIZER = "It belongs to the optimizer: set it in the module's configure_optimizers()."
_LOADER = "It belongs to the data: set it in the DataLoader, and pass that to trainer.fit(model, loader)."
_FIT = "It goes to the entry point: trainer.fit(model, train_loader, val_loader, datamodule=..., ckpt_path=...)."
_OUT_OF_SCOPE = "hookloop has nothing like it. Leave it out."

INSTEAD = {
    # devices
    **dict.fromkeys(
        ("gpus", "tpu_cores", "num_tpu_cores", "ipus", "hpus", "num_processes", "auto_select_gpus", "gpu", "device"),
        _DEVICES,
    ),
    "nb_gpu_nodes": "Use num_nodes.",
    "num_gpu_nodes": "Use num_nodes.",
    **dict.fromkeys(("distributed_backend", "ddp"), _STRATEGY),
    # how long
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_nb_epochs", "num_train_epochs"), "Use max_epochs."),
    "min_nb_epochs": "Use min_epochs.",
    **dict.fromkeys(("steps", "num_steps", "total_steps"), "Use max_steps."),
    # data
    **dict.fromkeys(("train_percent_check", "val_percent_check", "test_percent_check"), _BATCHES),
    "overfit_pct": "Use overfit_batches.",
    "fast_dev": "Use fast_dev_run.",
    "nb_sanity_val_steps": "Use num_sanity_val_steps.",
    "reload_dataloaders_every_epoch": "Use reload_dataloaders_every_n_epochs=1.",
    "replace_sampler_ddp": "Use use_distributed_sampler.",
    "multiple_trainloader_mode": "Pass a hookloop.utilities.CombinedLoader(loaders, mode) to trainer.fit.",
    "prepare_data_per_node": "Set it on the module or the datamodule: self.prepare_data_per_node = ....",
    **dict.fromkeys(("batch_size", "num_workers", "shuffle"), _LOADER),
    **dict.fromkeys(
        ("model", "module", "datamodule", "train_dataloader", "train_dataloaders", "val_dataloaders", "ckpt_path"),
        _FIT,
    ),
    "resume_from_checkpoint": 'Pass it to the entry point: trainer.fit(model, ckpt_path="path/to.ckpt").',
    # numbers
    **dict.fromkeys(("amp_backend", "amp_level", "amp_type", "use_amp", "fp16", "bf16"), _PRECISION),
    **dict.fromkeys(("lr", "learning_rate", "weight_decay", "optimizer"), _OPTIMIZER),
    **dict.fromkeys(("gradient_clip", "max_grad_norm", "clip_grad_norm"), "Use gradient_clip_val."),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad"), "Use accumulate_grad_batches."),
    "terminate_on_nan": "Use detect_anomaly=True.",
    "track_grad_norm": (
        "Log it in the module's on_before_optimizer_step: "
        "self.log_dict(hookloop.utilities.grad_norm(self, norm_type=2))."
    ),
    "truncated_bptt_steps": "Split the batch in training_step, with self.automatic_optimization = False.",
    "stochastic_weight_avg": "Pass a StochasticWeightAveraging callback in callbacks.",
    "seed": "Call hookloop.seed_everything(seed) before the module is built.",
    "automatic_optimization": "Set it in the module's __init__: self.automatic_optimization = False.",
    "enable_pl_optimizer": "Ask the module: self.optimizers(use_pl_optimizer=...).",
    # what is found before training
    **dict.fromkeys(("auto_lr_find", "auto_scale_batch_size"), _TUNER),
    # files, logs and the screen
    **dict.fromkeys(("checkpoint_callback", "weights_save_path", "save_top_k", "period"), _CHECKPOINTS),
    **dict.fromkeys(("early_stop_callback", "early_stopping", "patience"), _EARLY),
    **dict.fromkeys(("progress_bar_refresh_rate", "process_position", "show_progress_bar"), _BAR),
    **dict.fromkeys(("weights_summary", "model_summary"), _SUMMARY),
    **dict.fromkeys(("default_save_path", "output_dir", "root_dir"), "Use default_root_dir."),
    **dict.fromkeys(("row_log_interval", "log_interval", "logging_steps"), "Use log_every_n_steps."),
    **dict.fromkeys(
        ("flush_logs_every_n_steps", "log_save_interval"),
        "It belongs to the logger: logger=CSVLogger(..., flush_logs_every_n_steps=...).",
    ),
    "log_gpu_memory": "Pass a DeviceStatsMonitor callback in callbacks.",
    "loggers": "Use logger, which takes one or a list.",
    "callback": "Use callbacks, which takes one or a list.",
    "eval_steps": "Use val_check_interval.",
    "move_metrics_to_cpu": "Metrics stay on their device and are read when they are sent; leave it out.",
    # Lightning's own services
    **dict.fromkeys(("model_registry", "suggest_integrations"), _OUT_OF_SCOPE),
    "enable_autolog_hparams": (
        "Hyperparameters are logged where the module keeps them: self.save_hyperparameters(logger=False) keeps them "
        "out of the loggers."
    ),
}
"""A sentence for each of them."""
