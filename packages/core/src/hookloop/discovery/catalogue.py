"""Which of hookloop's own distributions holds what: the names that a message may tell the user to install."""

DISTRIBUTION_OF_CLASS: dict[str, str] = {
    name: f"hookloop-callbacks-{package}"
    for package, names in {
        "checkpoint": ("ModelCheckpoint", "OnExceptionCheckpoint"),
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
        "finetuning": ("BaseFinetuning", "BackboneFinetuning"),
        "pruning": ("ModelPruning",),
        "tuning": ("LearningRateFinder", "BatchSizeFinder", "GradientAccumulationScheduler"),
        "prediction": ("BasePredictionWriter",),
    }.items()
    for name in names
}
"""Every class that comes with hookloop, and the distribution that it is in."""
