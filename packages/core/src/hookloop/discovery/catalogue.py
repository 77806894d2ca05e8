"""Which of hookloop's own distributions holds what: the names that a message may tell the user to install."""

DISTRIBUTION_OF_CLASS: dict[str, str] = {
    name: f"hookloop-callbacks-{package}"
    for package, names in {
        "checkpoint": ("ModelCheckpoint", "OnExceptionCheckpoint", "RequeueOnSignal"),
        "swa": ("StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging"),
        "progress": ("ProgressBar", "TQDMProgressBar", "RichProgressBar", "ModelSummary", "RichModelSummary"),
        "monitoring": (
            "DeviceStatsMonitor",
            "LearningRateMonitor",
            "EarlyStopping",
            "Timer",
            "ThroughputMonitor",
            "SpikeDetection",
        ),
        "finetuning": ("BaseFinetuning", "BackboneFinetuning", "GradualUnfreezing"),
        "pruning": ("ModelPruning",),
        "tuning": ("LearningRateFinder", "BatchSizeFinder", "GradientAccumulationScheduler"),
        "prediction": ("BasePredictionWriter", "PredictionWriter"),
    }.items()
    for name in names
}
"""Every class that comes with hookloop, and the distribution that it is in."""

DISTRIBUTION_OF_NAME: dict[str, str] = {
    name: f"hookloop-callbacks-{package}"
    for package, names in {
        "finetuning": ("multiplicative",),
        "monitoring": ("EarlyStoppingReason", "Interval"),
        "prediction": ("WriteInterval",),
        "progress": ("LayerSummary", "ModelSummary", "RichProgressBarTheme", "summarize"),
        "tuning": ("Tuner",),
    }.items()
    for name in names
}
"""Everything else that comes with hookloop's packages and is found at a face of the core."""

PLACES: dict[str, tuple[str, ...]] = {
    "hookloop.callbacks.batch_size_finder": ("BatchSizeFinder",),
    "hookloop.callbacks.device_stats_monitor": ("DeviceStatsMonitor",),
    "hookloop.callbacks.early_stopping": ("EarlyStopping", "EarlyStoppingReason"),
    "hookloop.callbacks.finetuning": ("BackboneFinetuning", "BaseFinetuning", "multiplicative"),
    "hookloop.callbacks.gradient_accumulation_scheduler": ("GradientAccumulationScheduler",),
    "hookloop.callbacks.lr_finder": ("LearningRateFinder",),
    "hookloop.callbacks.lr_monitor": ("LearningRateMonitor",),
    "hookloop.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "hookloop.callbacks.model_summary": ("ModelSummary",),
    "hookloop.callbacks.on_exception_checkpoint": ("OnExceptionCheckpoint",),
    "hookloop.callbacks.prediction_writer": ("BasePredictionWriter", "WriteInterval"),
    "hookloop.callbacks.progress": ("ProgressBar", "RichProgressBar", "TQDMProgressBar"),
    "hookloop.callbacks.progress.progress_bar": ("ProgressBar",),
    "hookloop.callbacks.progress.rich_progress": ("RichProgressBar", "RichProgressBarTheme"),
    "hookloop.callbacks.progress.tqdm_progress": ("TQDMProgressBar",),
    "hookloop.callbacks.pruning": ("ModelPruning",),
    "hookloop.callbacks.rich_model_summary": ("RichModelSummary",),
    "hookloop.callbacks.spike": ("SpikeDetection",),
    "hookloop.callbacks.stochastic_weight_avg": ("StochasticWeightAveraging",),
    "hookloop.callbacks.throughput_monitor": ("ThroughputMonitor",),
    "hookloop.callbacks.timer": ("Interval", "Timer"),
    "hookloop.callbacks.weight_averaging": ("EMAWeightAveraging", "WeightAveraging"),
    "hookloop.tuner": ("Tuner",),
    "hookloop.tuner.tuning": ("Tuner",),
    "hookloop.utilities.model_summary": ("LayerSummary", "ModelSummary", "summarize"),
}
"""Which of these names Lightning's users look for in which module, beyond `hookloop.callbacks`."""
