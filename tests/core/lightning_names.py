"""The public names of Lightning 2.6's documented modules, after its root, and what becomes of each here."""

HERE: dict[str, str] = {
    "": "Callback LightningDataModule LightningModule Trainer seed_everything",
    "accelerators": "Accelerator CPUAccelerator CUDAAccelerator find_usable_cuda_devices",
    "accelerators.accelerator": "Accelerator",
    "accelerators.cpu": "CPUAccelerator",
    "accelerators.cuda": "CUDAAccelerator",
    "callbacks": "Callback LambdaCallback",
    "callbacks.callback": "Callback",
    "callbacks.lambda_function": "LambdaCallback",
    "core": "HyperparametersMixin LightningDataModule LightningModule LightningOptimizer",
    "core.datamodule": "LightningDataModule",
    "core.hooks": "CheckpointHooks DataHooks ModelHooks",
    "core.mixins": "HyperparametersMixin",
    "core.mixins.hparams_mixin": "HyperparametersMixin",
    "core.module": "LightningModule",
    "core.optimizer": "LightningOptimizer",
    "loggers": "CSVLogger Logger TensorBoardLogger",
    "loggers.csv_logs": "CSVLogger",
    "loggers.logger": "Logger",
    "loggers.tensorboard": "TensorBoardLogger",
    "plugins": "AsyncCheckpointIO CheckpointIO DoublePrecision HalfPrecision MixedPrecision Precision "
    "TorchCheckpointIO",
    "plugins.io": "AsyncCheckpointIO CheckpointIO TorchCheckpointIO",
    "plugins.io.async_plugin": "AsyncCheckpointIO",
    "plugins.io.checkpoint_plugin": "CheckpointIO",
    "plugins.io.torch_plugin": "TorchCheckpointIO",
    "plugins.precision": "DoublePrecision HalfPrecision MixedPrecision Precision",
    "plugins.precision.amp": "MixedPrecision",
    "plugins.precision.double": "DoublePrecision",
    "plugins.precision.half": "HalfPrecision",
    "plugins.precision.precision": "Precision",
    "profilers": "AdvancedProfiler PassThroughProfiler Profiler PyTorchProfiler SimpleProfiler",
    "profilers.advanced": "AdvancedProfiler",
    "profilers.base": "PassThroughProfiler",
    "profilers.profiler": "Profiler",
    "profilers.pytorch": "PyTorchProfiler",
    "profilers.simple": "SimpleProfiler",
    "strategies": "SingleDeviceStrategy Strategy",
    "strategies.single_device": "SingleDeviceStrategy",
    "strategies.strategy": "Strategy",
    "trainer": "Trainer seed_everything",
    "trainer.states": "RunningStage TrainerFn TrainerState TrainerStatus",
    "trainer.trainer": "Trainer",
    "utilities": (
        "AttributeDict CombinedLoader GradClipAlgorithmType disable_possible_user_warnings find_shared_parameters "
        "grad_norm is_picklable measure_flops move_data_to_device rank_zero_deprecation rank_zero_info "
        "rank_zero_only rank_zero_warn set_shared_parameters suggested_max_num_workers"
    ),
    "utilities.combined_loader": "CombinedLoader",
    "utilities.compile": "from_compiled to_uncompiled",
    "utilities.data": "extract_batch_size",
    "utilities.enums": "GradClipAlgorithmType",
    "utilities.exceptions": "MisconfigurationException SIGTERMException",
    "utilities.grads": "grad_norm",
    "utilities.memory": (
        "garbage_collection_cuda is_cuda_out_of_memory is_cudnn_snafu is_oom_error is_out_of_cpu_memory "
        "recursive_detach"
    ),
    "utilities.model_helpers": "is_overridden",
    "utilities.parameter_tying": "find_shared_parameters set_shared_parameters",
    "utilities.parsing": (
        "AttributeDict clean_namespace collect_init_args get_init_args is_picklable lightning_getattr "
        "lightning_hasattr lightning_setattr parse_class_init_keys"
    ),
    "utilities.rank_zero": (
        "LightningDeprecationWarning WarningCache rank_prefixed_message rank_zero_debug rank_zero_deprecation "
        "rank_zero_info rank_zero_only rank_zero_warn"
    ),
    "utilities.seed": "isolate_rng",
    "utilities.types": (
        "EVAL_DATALOADERS LRSchedulerConfig LRSchedulerConfigType LRSchedulerPLType LRSchedulerType "
        "LRSchedulerTypeTuple LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler OptimizerLRSchedulerConfig "
        "STEP_OUTPUT TRAIN_DATALOADERS"
    ),
    "utilities.warnings": "PossibleUserWarning",
}
"""At the same place."""

BY_PACKAGES: dict[str, dict[str, str]] = {
    "callbacks": {
        "checkpoint": "ModelCheckpoint OnExceptionCheckpoint",
        "finetuning": "BackboneFinetuning BaseFinetuning",
        "monitoring": ("DeviceStatsMonitor EarlyStopping LearningRateMonitor SpikeDetection ThroughputMonitor Timer"),
        "prediction": "BasePredictionWriter",
        "progress": "ModelSummary ProgressBar RichModelSummary RichProgressBar TQDMProgressBar",
        "pruning": "ModelPruning",
        "swa": "EMAWeightAveraging StochasticWeightAveraging WeightAveraging",
        "tuning": "BatchSizeFinder GradientAccumulationScheduler LearningRateFinder",
    },
    "callbacks.batch_size_finder": {"tuning": "BatchSizeFinder"},
    "callbacks.device_stats_monitor": {"monitoring": "DeviceStatsMonitor"},
    "callbacks.early_stopping": {"monitoring": "EarlyStopping EarlyStoppingReason"},
    "callbacks.finetuning": {"finetuning": "BackboneFinetuning BaseFinetuning multiplicative"},
    "callbacks.gradient_accumulation_scheduler": {"tuning": "GradientAccumulationScheduler"},
    "callbacks.lr_finder": {"tuning": "LearningRateFinder"},
    "callbacks.lr_monitor": {"monitoring": "LearningRateMonitor"},
    "callbacks.model_checkpoint": {"checkpoint": "ModelCheckpoint"},
    "callbacks.model_summary": {"progress": "ModelSummary"},
    "callbacks.on_exception_checkpoint": {"checkpoint": "OnExceptionCheckpoint"},
    "callbacks.prediction_writer": {"prediction": "BasePredictionWriter WriteInterval"},
    "callbacks.progress": {"progress": "ProgressBar RichProgressBar TQDMProgressBar"},
    "callbacks.progress.progress_bar": {"progress": "ProgressBar"},
    "callbacks.progress.rich_progress": {"progress": "RichProgressBar RichProgressBarTheme"},
    "callbacks.progress.tqdm_progress": {"progress": "TQDMProgressBar"},
    "callbacks.pruning": {"pruning": "ModelPruning"},
    "callbacks.rich_model_summary": {"progress": "RichModelSummary"},
    "callbacks.spike": {"monitoring": "SpikeDetection"},
    "callbacks.stochastic_weight_avg": {"swa": "StochasticWeightAveraging"},
    "callbacks.throughput_monitor": {"monitoring": "ThroughputMonitor"},
    "callbacks.timer": {"monitoring": "Interval Timer"},
    "callbacks.weight_averaging": {"swa": "EMAWeightAveraging WeightAveraging"},
    "tuner": {"tuning": "Tuner"},
    "tuner.tuning": {"tuning": "Tuner"},
    "utilities.model_summary": {"progress": "LayerSummary ModelSummary summarize"},
}
"""At the same place once the distribution hookloop-callbacks-<key> is installed; until then an error names it."""

ABSENT: dict[str, dict[str, str]] = {
    "profilers": {"XLAProfiler": "Use SimpleProfiler, AdvancedProfiler or PyTorchProfiler"},
    "accelerators": {
        "MPSAccelerator": "no accelerator for Apple's devices yet",
        "XLAAccelerator": "does not support TPUs",
        "AcceleratorRegistry": "Pass an instance",
    },
    "callbacks": {"Checkpoint": 'family = "checkpoint"'},
    "callbacks.checkpoint": {"Checkpoint": 'family = "checkpoint"'},
    "core.saving": dict.fromkeys(
        (
            *("load_hparams_from_tags_csv", "load_hparams_from_yaml", "save_hparams_to_tags_csv"),
            *("save_hparams_to_yaml", "update_hparams"),
        ),
        "hparams.yaml",
    ),
    "plugins": {
        "BitsandbytesPrecision": "Use MixedPrecision",
        "DeepSpeedPrecision": "does not support DeepSpeed",
        "FSDPPrecision": "today it trains on one",
        "LayerSync": "today it trains on one",
        "TorchSyncBatchNorm": "today it trains on one",
        "TransformerEnginePrecision": "Use MixedPrecision",
        "XLACheckpointIO": "does not support TPUs",
        "XLAPrecision": "does not support TPUs",
    },
    "plugins.environments": dict.fromkeys(
        (
            *("ClusterEnvironment", "KubeflowEnvironment", "LSFEnvironment", "LightningEnvironment", "MPIEnvironment"),
            "TorchElasticEnvironment",
        ),
        "today it trains on one",
    )
    | {"SLURMEnvironment": "RequeueOnSignal of hookloop.callbacks", "XLAEnvironment": "does not support TPUs"},
    "plugins.io": {"XLACheckpointIO": "does not support TPUs"},
    "plugins.layer_sync": dict.fromkeys(("LayerSync", "TorchSyncBatchNorm"), "today it trains on one"),
    "plugins.precision": {
        "BitsandbytesPrecision": "Use MixedPrecision",
        "DeepSpeedPrecision": "does not support DeepSpeed",
        "FSDPPrecision": "today it trains on one",
        "TransformerEnginePrecision": "Use MixedPrecision",
        "XLAPrecision": "does not support TPUs",
    },
    "strategies": {
        "DDPStrategy": "Use SingleDeviceStrategy",
        "DeepSpeedStrategy": "does not support DeepSpeed",
        "FSDPStrategy": "Use SingleDeviceStrategy",
        "ModelParallelStrategy": "Use SingleDeviceStrategy",
        "ParallelStrategy": "Use SingleDeviceStrategy",
        "SingleDeviceXLAStrategy": "does not support TPUs",
        "StrategyRegistry": "Use SingleDeviceStrategy",
        "XLAStrategy": "does not support TPUs",
    },
    "utilities": {"LightningEnum": "enum.StrEnum", "is_shared_filesystem": "today it trains on one"},
    "utilities.data": {"has_len_all_ranks": "today it trains on one"},
    "utilities.enums": {"LightningEnum": "enum.StrEnum"},
    "utilities.model_helpers": {"get_torchvision_model": "torchvision.models.get_model"},
    "utilities.parsing": {"save_hyperparameters": "call self.save_hyperparameters"},
    "utilities.types": {"DistributedDataParallel": "today it trains on one"},
}
"""Not here: an ImportError says why, and what to do instead."""

NO_SUCH_MODULE: tuple[str, ...] = (
    # several devices, which come later
    *("overrides", "strategies.ddp", "strategies.fsdp", "strategies.launchers", "strategies.model_parallel"),
    *("strategies.parallel", "utilities.consolidate_checkpoint"),
    # reading and upgrading Lightning's own checkpoints, which comes later
    *("utilities.migration", "utilities.upgrade_checkpoint"),
    # devices, libraries and ways to deploy that are out of scope
    *("accelerators.mps", "accelerators.xla", "demos", "plugins.io.xla_plugin"),
    *("plugins.precision.bitsandbytes", "plugins.precision.deepspeed", "plugins.precision.fsdp"),
    *("plugins.precision.transformer_engine", "plugins.precision.xla", "profilers.xla", "serve"),
    *("strategies.deepspeed", "strategies.single_xla", "strategies.xla", "utilities.deepspeed"),
    *("loggers.comet", "loggers.litlogger", "loggers.mlflow", "loggers.neptune", "loggers.wandb"),
    "utilities.model_registry",
    # its inside
    *("loggers.utilities", "loops.evaluation_loop", "loops.fetchers", "loops.fit_loop", "loops.loop"),
    *("loops.optimization", "loops.prediction_loop", "loops.progress", "loops.training_epoch_loop", "loops.utilities"),
    *("plugins.io.wrapper", "trainer.call", "trainer.configuration_validator", "trainer.connectors", "trainer.setup"),
    *("tuner.batch_size_scaling", "tuner.lr_finder", "utilities.argparse", "utilities.imports"),
    *("utilities.signature_utils", "utilities.testing"),
)
"""Modules of Lightning that hookloop does not have: Python's own error names them."""
