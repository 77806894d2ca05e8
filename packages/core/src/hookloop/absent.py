"""Names that Lightning's users look for and hookloop does not have: each with the reason, and what to do instead."""

_ONE_DEVICE = "{name} is about training on several devices, which hookloop does not do yet: today it trains on one. "
_NOT_OURS = "hookloop does not support {what}. "

_REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("DDPStrategy", "FSDPStrategy", "ModelParallelStrategy", "ParallelStrategy", "StrategyRegistry"),
        _ONE_DEVICE + "Use SingleDeviceStrategy, or leave `strategy` out.",
    ),
    **dict.fromkeys(
        (
            *("ClusterEnvironment", "DistributedDataParallel", "FSDPPrecision", "KubeflowEnvironment"),
            *("LSFEnvironment", "LayerSync", "LightningEnvironment", "MPIEnvironment"),
            *("TorchElasticEnvironment", "TorchSyncBatchNorm", "has_len_all_ranks", "is_shared_filesystem"),
        ),
        _ONE_DEVICE + "Leave it out.",
    ),
    "SLURMEnvironment": _ONE_DEVICE + "Leave it out. To have SLURM queue a job again whose time is over: "
    "RequeueOnSignal of hookloop.callbacks.",
    **dict.fromkeys(
        (
            *("SingleDeviceXLAStrategy", "XLAAccelerator", "XLACheckpointIO", "XLAEnvironment", "XLAPrecision"),
            "XLAStrategy",
        ),
        _NOT_OURS.format(what="TPUs") + 'Use accelerator="cpu" or "cuda".',
    ),
    "XLAProfiler": _NOT_OURS.format(what="TPUs") + "Use SimpleProfiler, AdvancedProfiler or PyTorchProfiler.",
    **dict.fromkeys(
        ("DeepSpeedPrecision", "DeepSpeedStrategy"),
        _NOT_OURS.format(what="DeepSpeed") + "Today it trains on one device: leave {name} out.",
    ),
    "MPSAccelerator": "hookloop has no accelerator for Apple's devices yet. Use CPUAccelerator, or write one: inherit "
    "from hookloop.accelerators.Accelerator and pass an instance as Trainer(accelerator=...).",
    "AcceleratorRegistry": "hookloop keeps no registry of accelerators. Pass an instance: Trainer(accelerator=...).",
    **dict.fromkeys(
        ("BitsandbytesPrecision", "TransformerEnginePrecision"),
        "hookloop has no {name}. Use MixedPrecision or HalfPrecision, or write one: inherit from "
        "hookloop.plugins.Precision and pass an instance as Trainer(plugins=...).",
    ),
    "Checkpoint": "hookloop has no class that marks checkpoint callbacks. Inherit from Callback, and give the class "
    '`family = "checkpoint"` and `order = Order.LAST`.',
    "LightningEnum": "hookloop's enumerations are the standard library's. Inherit from enum.StrEnum.",
    "save_hyperparameters": "hookloop has it as a method alone: call self.save_hyperparameters() in __init__.",
    **dict.fromkeys(
        (
            *("load_hparams_from_tags_csv", "load_hparams_from_yaml"),
            *("save_hparams_to_tags_csv", "save_hparams_to_yaml", "update_hparams"),
        ),
        "hookloop has no {name}: its loggers write hparams.yaml, and `load_from_checkpoint(path, hparams_file=...)` "
        "reads it.",
    ),
    "get_torchvision_model": "hookloop has no {name}: call torchvision.models.get_model(name).",
}


def absent(face: str, name: str, otherwise: str = "") -> ImportError | AttributeError:
    """The error for a name that a module does not have.

    Args:
        face: the module.
        name: what was looked for in it.
        otherwise: what to say of a name that nobody knows; Python's own words if empty.

    Returns:
        An ImportError with the reason, for a name that Lightning has and hookloop does not; else an AttributeError.
    """
    if name in _REASONS:
        return ImportError(f"{face}: {_REASONS[name].format(name=name)}", name=face)
    return AttributeError(otherwise or f"module {face!r} has no attribute {name!r}", name=name)
