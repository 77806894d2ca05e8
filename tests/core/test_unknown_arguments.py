"""Arguments that the Trainer does not have: what it says to use instead."""

import inspect
import re
from typing import Any

import pytest

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.trainer.removed import INSTEAD

ARGUMENTS = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]

# Of Lightning's earlier versions, by its changelogs; each stood in the signature of some Trainer.
OF_TRAINERS_BEFORE = """
gpus tpu_cores ipus num_processes auto_select_gpus auto_scale_batch_size auto_lr_find resume_from_checkpoint
checkpoint_callback weights_summary progress_bar_refresh_rate process_position flush_logs_every_n_steps log_gpu_memory
weights_save_path truncated_bptt_steps terminate_on_nan stochastic_weight_avg prepare_data_per_node
reload_dataloaders_every_epoch distributed_backend amp_backend amp_level replace_sampler_ddp move_metrics_to_cpu
multiple_trainloader_mode val_percent_check train_percent_check test_percent_check overfit_pct row_log_interval
log_save_interval early_stop_callback use_amp nb_gpu_nodes nb_sanity_val_steps gradient_clip min_nb_epochs max_nb_epochs
show_progress_bar default_save_path track_grad_norm automatic_optimization enable_pl_optimizer
model_registry suggest_integrations enable_autolog_hparams
"""
LIGHTNINGS = OF_TRAINERS_BEFORE.split()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_epoch", "max_epochs"),
        ("maxepochs", "max_epochs"),
        ("acelerator", "accelerator"),
        ("val_check_intervall", "val_check_interval"),
        ("limit_train_batch", "limit_train_batches"),
        ("detect_anomalies", "detect_anomaly"),
        ("log_every_n_step", "log_every_n_steps"),
    ],
)
def test_a_misspelt_argument_is_an_error_that_names_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        Trainer(**{name: 3})  # type: ignore[arg-type]
    assert str(caught.value) == f"Trainer has no argument '{name}'. Did you mean '{meant}'?"


def test_a_misspelt_argument_that_is_gone_is_told_both() -> None:
    with pytest.raises(MisconfigurationError) as caught:
        Trainer(resume_from_checkpont="a.ckpt")  # type: ignore[call-arg]
    assert str(caught.value) == (
        "Trainer has no argument 'resume_from_checkpont'. Did you mean 'resume_from_checkpoint'? It has none of that "
        'name either. Pass it to the entry point: trainer.fit(model, ckpt_path="path/to.ckpt").'
    )


def test_an_argument_like_no_other_is_an_error_that_lists_them_all() -> None:
    with pytest.raises(MisconfigurationError) as caught:
        Trainer(xyzzy=1)  # type: ignore[call-arg]
    assert str(caught.value) == f"Trainer has no argument 'xyzzy'. It has: {', '.join(ARGUMENTS)}."


@pytest.mark.parametrize("name", LIGHTNINGS)
def test_every_argument_that_lightning_once_had_is_answered_with_what_to_do(name: str) -> None:
    with pytest.raises(MisconfigurationError, match=rf"^Trainer has no argument '{name}'\. [A-Zh].{{8,}}\.$"):
        Trainer(**{name: 1})  # type: ignore[arg-type]
    assert name in INSTEAD


@pytest.mark.parametrize(
    ("arguments", "use"),
    [
        ({"gpus": 1}, "accelerator"),
        ({"resume_from_checkpoint": "a.ckpt"}, "ckpt_path="),
        ({"auto_lr_find": True}, "LearningRateFinder"),
        ({"checkpoint_callback": False}, "enable_checkpointing=False"),
        ({"weights_summary": None}, "enable_model_summary"),
        ({"progress_bar_refresh_rate": 0}, "enable_progress_bar=False"),
        ({"terminate_on_nan": True}, "detect_anomaly=True"),
        ({"epochs": 3}, "max_epochs"),
        ({"lr": 0.1}, r"configure_optimizers\(\)"),
        ({"batch_size": 8}, "DataLoader"),
        ({"fp16": True}, '"16-mixed"'),
        ({"datamodule": None}, r"trainer\.fit\(model"),
        ({"overfit_pct": 0.1}, "overfit_batches"),
    ],
    ids=repr,
)
def test_the_answer_names_what_to_use(arguments: dict[str, Any], use: str) -> None:
    with pytest.raises(MisconfigurationError, match=use):
        Trainer(**arguments)


def test_nothing_that_the_trainer_has_is_said_to_be_gone() -> None:
    assert set(INSTEAD) & set(ARGUMENTS) == set()


@pytest.mark.parametrize("name", sorted(INSTEAD))
def test_every_answer_is_a_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Zh].{8,}\.", INSTEAD[name])


def test_an_unknown_argument_is_a_type_error_as_in_python() -> None:
    with pytest.raises(TypeError, match="max_epoch"):
        Trainer(max_epoch=3)  # type: ignore[call-arg]


def test_a_positional_argument_is_an_error_that_says_to_write_its_name() -> None:
    with pytest.raises(TypeError) as caught:
        Trainer(3, "cpu")  # type: ignore[call-arg, arg-type]
    assert isinstance(caught.value, MisconfigurationError)
    assert str(caught.value) == (
        "Trainer takes no positional argument, and got 3, 'cpu'. "
        "Write its arguments by name, for example Trainer(max_epochs=3)."
    )


def test_a_module_that_is_passed_to_the_constructor_is_sent_to_fit() -> None:
    with pytest.raises(MisconfigurationError, match=r"got a LightningModule.*Trainer\(\.\.\.\)\.fit\(module\)"):
        Trainer(LightningModule())  # type: ignore[call-arg, arg-type]
