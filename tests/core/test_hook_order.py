"""The recorded traces: every hook of whole runs, event by event.

The lists were written down from the recorded order of PyTorch Lightning 2.6, with what hookloop adds on purpose:
`on_after_optimizer_step` right after each step, and `on_checkpoint_saved` after each file. M is the module, DM the
datamodule, C a callback of Order NORMAL, O one of Order MONITOR; SAVE marks where a callback of Order LAST, which is
listed before C, saves a checkpoint.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, Order
from hookloop.view import TrainerView

from .recording import (
    SHARED_HOOKS,
    Batch,
    Event,
    FirstRecorder,
    LastRecorder,
    MonitorRecorder,
    QuietModule,
    RecordingCallback,
    RecordingDataModule,
    RecordingModule,
    Saver,
    Trace,
    lines,
    loader,
    make_trainer,
)

FIT = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.configure_optimizers
C.on_fit_start M.on_fit_start

C.on_sanity_check_start
M.val_dataloader
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train
C.on_sanity_check_end

M.train_dataloader
C.on_train_start M.on_train_start
C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end

M.on_validation_model_zero_grad
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train

C.on_train_epoch_end M.on_train_epoch_end
SAVE
M.state_dict
C.state_dict
C.on_save_checkpoint M.on_save_checkpoint
C.on_checkpoint_saved

C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end

M.on_validation_model_zero_grad
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train

C.on_train_epoch_end M.on_train_epoch_end
SAVE
M.state_dict
C.state_dict
C.on_save_checkpoint M.on_save_checkpoint
C.on_checkpoint_saved

C.on_train_end M.on_train_end
C.on_fit_end M.on_fit_end
C.teardown M.teardown
"""

# The second of two epochs; the sanity check is skipped, and the loaders are made right before on_train_start.
RESUME = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.on_load_checkpoint
M.load_state_dict
C.on_load_checkpoint
C.load_state_dict
M.configure_optimizers
C.on_fit_start M.on_fit_start

M.train_dataloader
M.val_dataloader
C.on_train_start M.on_train_start
C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end

M.on_validation_model_zero_grad
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train

C.on_train_epoch_end M.on_train_epoch_end
SAVE
M.state_dict
C.state_dict
C.on_save_checkpoint M.on_save_checkpoint
C.on_checkpoint_saved

C.on_train_end M.on_train_end
C.on_fit_end M.on_fit_end
C.teardown M.teardown
"""

VALIDATE = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.val_dataloader
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train
C.teardown M.teardown
"""

TEST = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.test_dataloader
M.on_test_model_eval
C.on_test_start M.on_test_start
C.on_test_epoch_start M.on_test_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_test_batch_start M.on_test_batch_start
M.test_step
C.on_test_batch_end M.on_test_batch_end
C.on_test_epoch_end M.on_test_epoch_end
C.on_test_end M.on_test_end
M.on_test_model_train
C.teardown M.teardown
"""

PREDICT = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.predict_dataloader
M.on_predict_model_eval
C.on_predict_start M.on_predict_start
C.on_predict_epoch_start M.on_predict_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_predict_batch_start M.on_predict_batch_start
M.predict_step
C.on_predict_batch_end M.on_predict_batch_end
C.on_predict_epoch_end M.on_predict_epoch_end
C.on_predict_end M.on_predict_end
C.teardown M.teardown
"""

VALIDATE_A_CHECKPOINT = """
M.configure_callbacks
M.prepare_data
C.setup M.setup
M.configure_model
M.on_load_checkpoint
M.load_state_dict
C.on_load_checkpoint
C.load_state_dict
M.val_dataloader
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train
C.teardown M.teardown
"""

# One epoch of one batch; the datamodule is the first to be set up and torn down, and is saved after the callbacks.
FIT_WITH_DATAMODULE = """
M.configure_callbacks
DM.prepare_data M.prepare_data
DM.setup C.setup M.setup
M.configure_model
M.configure_optimizers
C.on_fit_start M.on_fit_start
DM.train_dataloader
DM.val_dataloader
C.on_train_start M.on_train_start
C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end

M.on_validation_model_zero_grad
M.on_validation_model_eval
C.on_validation_start M.on_validation_start
C.on_validation_epoch_start M.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_validation_batch_start M.on_validation_batch_start
M.validation_step
C.on_validation_batch_end M.on_validation_batch_end
C.on_validation_epoch_end M.on_validation_epoch_end
C.on_validation_end M.on_validation_end
M.on_validation_model_train

C.on_train_epoch_end M.on_train_epoch_end
SAVE
M.state_dict
C.state_dict
DM.state_dict
C.on_save_checkpoint M.on_save_checkpoint
C.on_checkpoint_saved

C.on_train_end M.on_train_end
C.on_fit_end M.on_fit_end
DM.teardown C.teardown M.teardown
"""

# The same run without validation, from the checkpoint of its first epoch.
RESUME_WITH_DATAMODULE = """
M.configure_callbacks
DM.prepare_data M.prepare_data
DM.setup C.setup M.setup
M.configure_model
M.on_load_checkpoint
M.load_state_dict
DM.load_state_dict
C.on_load_checkpoint
C.load_state_dict
M.configure_optimizers
C.on_fit_start M.on_fit_start
DM.train_dataloader
C.on_train_start M.on_train_start
C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end

C.on_train_epoch_end M.on_train_epoch_end
SAVE
M.state_dict
C.state_dict
DM.state_dict
C.on_save_checkpoint M.on_save_checkpoint
C.on_checkpoint_saved

C.on_train_end M.on_train_end
C.on_fit_end M.on_fit_end
DM.teardown C.teardown M.teardown
"""

# One epoch of one batch: a callback that monitors comes after the module in every hook that both have.
MONITOR_FIT = """
M.configure_callbacks
M.prepare_data
M.setup O.setup
M.configure_model
M.configure_optimizers
M.on_fit_start O.on_fit_start

O.on_sanity_check_start
M.val_dataloader
M.on_validation_model_eval
M.on_validation_start O.on_validation_start
M.on_validation_epoch_start O.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
M.on_validation_batch_start O.on_validation_batch_start
M.validation_step
M.on_validation_batch_end O.on_validation_batch_end
M.on_validation_epoch_end O.on_validation_epoch_end
M.on_validation_end O.on_validation_end
M.on_validation_model_train
O.on_sanity_check_end

M.train_dataloader
M.on_train_start O.on_train_start
M.on_train_epoch_start O.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
M.on_train_batch_start O.on_train_batch_start
M.optimizer_step
M.training_step
M.on_before_zero_grad O.on_before_zero_grad
M.optimizer_zero_grad
M.on_before_backward O.on_before_backward
M.backward
M.on_after_backward O.on_after_backward
M.on_before_optimizer_step O.on_before_optimizer_step
M.configure_gradient_clipping
M.on_after_optimizer_step O.on_after_optimizer_step
M.lr_scheduler_step
M.on_train_batch_end O.on_train_batch_end

M.on_validation_model_zero_grad
M.on_validation_model_eval
M.on_validation_start O.on_validation_start
M.on_validation_epoch_start O.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
M.on_validation_batch_start O.on_validation_batch_start
M.validation_step
M.on_validation_batch_end O.on_validation_batch_end
M.on_validation_epoch_end O.on_validation_epoch_end
M.on_validation_end O.on_validation_end
M.on_validation_model_train

M.on_train_epoch_end O.on_train_epoch_end
SAVE
M.state_dict
O.state_dict
M.on_save_checkpoint O.on_save_checkpoint
O.on_checkpoint_saved

M.on_train_end O.on_train_end
M.on_fit_end O.on_fit_end
M.teardown O.teardown
"""

MONITOR_TEST_A_CHECKPOINT = """
M.configure_callbacks
M.prepare_data
M.setup O.setup
M.configure_model
M.on_load_checkpoint
M.load_state_dict
O.on_load_checkpoint
O.load_state_dict
M.test_dataloader
M.on_test_model_eval
M.on_test_start O.on_test_start
M.on_test_epoch_start O.on_test_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
M.on_test_batch_start O.on_test_batch_start
M.test_step
M.on_test_batch_end O.on_test_batch_end
M.on_test_epoch_end O.on_test_epoch_end
M.on_test_end O.on_test_end
M.on_test_model_train
M.teardown O.teardown
"""

MONITOR_PREDICT = """
M.configure_callbacks
M.prepare_data
M.setup O.setup
M.configure_model
M.predict_dataloader
M.on_predict_model_eval
M.on_predict_start O.on_predict_start
M.on_predict_epoch_start O.on_predict_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
M.on_predict_batch_start O.on_predict_batch_start
M.predict_step
M.on_predict_batch_end O.on_predict_batch_end
M.on_predict_epoch_end O.on_predict_epoch_end
M.on_predict_end O.on_predict_end
M.teardown O.teardown
"""

FIT_THAT_FAILS_IN_TRAINING_STEP = """
M.configure_callbacks
DM.prepare_data M.prepare_data
DM.setup C.setup M.setup
M.configure_model
M.configure_optimizers
C.on_fit_start M.on_fit_start
DM.train_dataloader
C.on_train_start M.on_train_start
C.on_train_epoch_start M.on_train_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_exception
DM.on_exception
DM.teardown C.teardown M.teardown
"""

# Epochs of three batches whose second one the module skips: no end of that batch, no validation, then the epoch's end.
EPOCH_ENDED_BY_THE_MODULE = """
C.on_train_epoch_start M.on_train_epoch_start

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_backward M.on_before_backward
M.backward
C.on_after_backward M.on_after_backward
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
C.on_train_batch_end M.on_train_batch_end

M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
C.on_train_batch_start M.on_train_batch_start
M.lr_scheduler_step
C.on_train_epoch_end M.on_train_epoch_end
"""

# One batch whose training_step has nothing to learn from: all of a step but its backward.
BATCH_WITHOUT_A_LOSS = """
C.on_train_batch_start M.on_train_batch_start
M.optimizer_step
M.training_step
C.on_before_zero_grad M.on_before_zero_grad
M.optimizer_zero_grad
C.on_before_optimizer_step M.on_before_optimizer_step
M.configure_gradient_clipping
C.on_after_optimizer_step M.on_after_optimizer_step
M.lr_scheduler_step
C.on_train_batch_end M.on_train_batch_end
"""

# Three batches, windows of two, validation after each batch: gradients are only cleared for it between windows.
VALIDATION_AFTER_EACH_BATCH = """
M.training_step
M.optimizer_zero_grad
M.on_validation_model_eval
M.validation_step
M.on_validation_model_train

M.training_step
C.on_after_optimizer_step
M.on_validation_model_zero_grad
M.on_validation_model_eval
M.validation_step
M.on_validation_model_train

M.training_step
M.optimizer_zero_grad
C.on_after_optimizer_step
M.on_validation_model_zero_grad
M.on_validation_model_eval
M.validation_step
M.on_validation_model_train
"""


class Run:
    """A trace with its recorders C and DM, and a saver that is listed before C."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace = Trace()
        self.callback = RecordingCallback("C", self.trace)
        self.saver = Saver(self.trace, folder)

    def trainer(self, **arguments: Any) -> Any:
        return make_trainer(self.folder, [self.saver, self.callback], **arguments)

    def module(self) -> RecordingModule:
        return RecordingModule(self.trace)

    def datamodule(self) -> RecordingDataModule:
        return RecordingDataModule(self.trace)

    def forget(self) -> None:
        self.trace.events.clear()

    def saved(self) -> Path:
        """The checkpoint of the first of two epochs; the trace is empty again."""
        self.trainer(max_epochs=1, accumulate_grad_batches=2).fit(self.module())
        self.forget()
        return self.saver.path(0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_expected_fit_holds_the_202_events_of_the_reference_and_the_ten_that_hookloop_adds() -> None:
    added = [event for event in lines(FIT) if event.endswith(("on_after_optimizer_step", "on_checkpoint_saved"))]
    assert len(added) == 4 * 2 + 2
    assert len(lines(FIT)) == 202 + len(added)


def test_fit_calls_every_hook_in_the_order_of_the_reference(run: Run) -> None:
    run.trainer(max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=1).fit(run.module())
    assert run.trace.names == lines(FIT)


def test_a_second_fit_of_the_same_objects_has_the_same_trace(run: Run) -> None:
    module = run.module()
    for _ in range(2):
        run.forget()
        run.trainer(max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=1).fit(module)
        assert run.trace.names == lines(FIT)


def test_resume_at_an_epoch_boundary_restores_before_fit_start_and_goes_on_with_the_next_epoch(run: Run) -> None:
    checkpoint = run.saved()
    trainer = run.trainer(max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=1)
    trainer.fit(run.module(), ckpt_path=checkpoint)
    assert run.trace.names == lines(RESUME)
    assert [args[3] for args in run.trace.calls("C", "on_train_batch_start")] == [0, 1, 2]
    assert trainer.current_epoch == 2
    assert trainer.global_step == 4


def test_resume_inside_an_epoch_goes_on_with_the_next_batch_and_does_not_start_the_epoch_again(tmp_path: Path) -> None:
    class SavesAfterTheFirstBatch(Callback):
        order = Order.LAST

        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            if trainer.global_step == 1:
                trainer.save_checkpoint(tmp_path / "inside.ckpt")

    make_trainer(tmp_path, [SavesAfterTheFirstBatch()], max_epochs=1).fit(QuietModule())
    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=1)
    trainer.fit(QuietModule(), ckpt_path=tmp_path / "inside.ckpt")
    around = {"on_sanity_check_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start"}
    around |= {"on_validation_start", "on_train_epoch_end"}
    assert [hook for hook in trace.of("C") if hook in around] == lines("""
        on_train_start on_train_batch_start on_train_batch_start on_validation_start on_train_epoch_end
    """)
    assert [args[3] for args in trace.calls("C", "on_train_batch_start")] == [1, 2]
    assert trainer.global_step == 3
    assert trainer.current_epoch == 1


def test_validate_calls_every_hook_in_the_order_of_the_reference(run: Run) -> None:
    run.trainer().validate(run.module())
    assert run.trace.names == lines(VALIDATE)


def test_test_calls_every_hook_in_the_order_of_the_reference(run: Run) -> None:
    run.trainer().test(run.module())
    assert run.trace.names == lines(TEST)


def test_predict_calls_every_hook_in_the_order_of_the_reference(run: Run) -> None:
    run.trainer().predict(run.module())
    assert run.trace.names == lines(PREDICT)


def test_validate_from_a_checkpoint_restores_module_and_callbacks_before_the_loader_is_made(run: Run) -> None:
    checkpoint = run.saved()
    run.trainer().validate(run.module(), ckpt_path=checkpoint)
    assert run.trace.names == lines(VALIDATE_A_CHECKPOINT)


def test_a_datamodule_is_set_up_and_torn_down_first_and_saved_after_the_callbacks(run: Run) -> None:
    run.trainer(max_epochs=1, num_sanity_val_steps=0).fit(run.module(), datamodule=run.datamodule())
    assert run.trace.names == lines(FIT_WITH_DATAMODULE)


def test_resume_restores_the_datamodule_between_the_module_and_the_callbacks(run: Run) -> None:
    run.trainer(max_epochs=1).fit(run.module(), datamodule=run.datamodule())
    run.forget()
    trainer = run.trainer(max_epochs=2, limit_val_batches=0)
    trainer.fit(run.module(), datamodule=run.datamodule(), ckpt_path=run.saver.path(0))
    assert run.trace.names == lines(RESUME_WITH_DATAMODULE)


def test_a_monitoring_callback_comes_after_the_module_in_every_hook(tmp_path: Path) -> None:
    trace = Trace()
    saver = Saver(trace, tmp_path)
    trainer = make_trainer(tmp_path, [saver, MonitorRecorder("O", trace)], max_epochs=1, num_sanity_val_steps=1)
    trainer.fit(RecordingModule(trace, train_batches=1))
    assert trace.names == lines(MONITOR_FIT)
    trace.events.clear()
    trainer.test(RecordingModule(trace), ckpt_path=saver.path(0))
    assert trace.names == lines(MONITOR_TEST_A_CHECKPOINT)
    trace.events.clear()
    trainer.predict(RecordingModule(trace))
    assert trace.names == lines(MONITOR_PREDICT)


def test_after_an_error_everybody_hears_of_it_before_everything_is_torn_down(run: Run) -> None:
    class FailingModule(RecordingModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            super().training_step(batch, batch_idx)
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        run.trainer(max_epochs=1, limit_val_batches=0).fit(FailingModule(run.trace), datamodule=run.datamodule())
    assert run.trace.names == lines(FIT_THAT_FAILS_IN_TRAINING_STEP)


# Every hook of a fit that resumes, with two callbacks of each Order. `all` are the callbacks with the module between
# them, `callbacks` the same without the module.
EVERYBODY = ("F1", "F2", "N1", "N2", "M", "O1", "O2", "L1", "L2")
GROUPED_FIT = """
M.configure_callbacks
M.prepare_data
all.setup
M.configure_model
M.on_load_checkpoint
M.load_state_dict
callbacks.on_load_checkpoint
callbacks.load_state_dict
M.configure_optimizers
all.on_fit_start
M.train_dataloader
M.val_dataloader
all.on_train_start
all.on_train_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_train_batch_start
M.optimizer_step
M.training_step
all.on_before_zero_grad
M.optimizer_zero_grad
all.on_before_backward
M.backward
all.on_after_backward
all.on_before_optimizer_step
M.configure_gradient_clipping
all.on_after_optimizer_step
M.lr_scheduler_step
all.on_train_batch_end
M.on_validation_model_zero_grad
M.on_validation_model_eval
all.on_validation_start
all.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_validation_batch_start
M.validation_step
all.on_validation_batch_end
all.on_validation_epoch_end
all.on_validation_end
M.on_validation_model_train
F1.on_train_epoch_end F2.on_train_epoch_end N1.on_train_epoch_end N2.on_train_epoch_end
M.on_train_epoch_end
O1.on_train_epoch_end O2.on_train_epoch_end
L1.on_train_epoch_end
SAVE
M.state_dict
callbacks.state_dict
all.on_save_checkpoint
callbacks.on_checkpoint_saved
L2.on_train_epoch_end
all.on_train_end
all.on_fit_end
all.teardown
"""

GROUPED_VALIDATE = """
M.configure_callbacks
M.prepare_data
all.setup
M.configure_model
M.val_dataloader
M.on_validation_model_eval
all.on_validation_start
all.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_validation_batch_start
M.validation_step
all.on_validation_batch_end
all.on_validation_epoch_end
all.on_validation_end
M.on_validation_model_train
all.teardown
"""

GROUPED_TEST = """
M.configure_callbacks
M.prepare_data
all.setup
M.configure_model
M.test_dataloader
M.on_test_model_eval
all.on_test_start
all.on_test_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_test_batch_start
M.test_step
all.on_test_batch_end
all.on_test_epoch_end
all.on_test_end
M.on_test_model_train
all.teardown
"""

GROUPED_PREDICT = """
M.configure_callbacks
M.prepare_data
all.setup
M.configure_model
M.predict_dataloader
M.on_predict_model_eval
all.on_predict_start
all.on_predict_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_predict_batch_start
M.predict_step
all.on_predict_batch_end
all.on_predict_epoch_end
all.on_predict_end
all.teardown
"""

GROUPED_SANITY_CHECK = """
callbacks.on_sanity_check_start
M.val_dataloader
M.on_validation_model_eval
all.on_validation_start
all.on_validation_epoch_start
M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer
all.on_validation_batch_start
M.validation_step
all.on_validation_batch_end
all.on_validation_epoch_end
all.on_validation_end
M.on_validation_model_train
callbacks.on_sanity_check_end
"""


def grouped(text: str) -> list[str]:
    """Every `all` and `callbacks` replaced by the recorders that it stands for."""
    groups = {"all": EVERYBODY, "callbacks": tuple(who for who in EVERYBODY if who != "M")}
    expected = []
    for event in lines(text):
        who, _, hook = event.partition(".")
        expected += [f"{member}.{hook}" for member in groups[who]] if who in groups else [event]
    return expected


def test_callbacks_run_by_order_and_inside_a_group_as_the_user_listed_them(tmp_path: Path) -> None:
    trace = Trace()
    saver = Saver(trace, tmp_path)
    callbacks = [
        LastRecorder("L1", trace),
        MonitorRecorder("O1", trace),
        RecordingCallback("N1", trace),
        saver,
        FirstRecorder("F1", trace),
        LastRecorder("L2", trace),
        RecordingCallback("N2", trace),
        MonitorRecorder("O2", trace),
        FirstRecorder("F2", trace),
    ]
    make_trainer(tmp_path, [*callbacks], max_epochs=1, num_sanity_val_steps=1).fit(RecordingModule(trace, 1))
    check = trace.names.index("F1.on_sanity_check_start"), trace.names.index("L2.on_sanity_check_end")
    assert trace.names[check[0] : check[1] + 1] == grouped(GROUPED_SANITY_CHECK)

    trace.events.clear()
    trainer = make_trainer(tmp_path, [*callbacks], max_epochs=2)
    trainer.fit(RecordingModule(trace, 1), ckpt_path=saver.path(0))
    assert trace.names == grouped(GROUPED_FIT)

    for entry_point, expected in (("validate", GROUPED_VALIDATE), ("test", GROUPED_TEST), ("predict", GROUPED_PREDICT)):
        trace.events.clear()
        getattr(trainer, entry_point)(RecordingModule(trace))
        assert trace.names == grouped(expected)


def test_every_callback_hears_of_an_error_in_the_order_of_all_hooks(tmp_path: Path) -> None:
    class FailingModule(QuietModule):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            raise RuntimeError("planted")

    trace = Trace()
    kinds = (
        LastRecorder("L", trace),
        MonitorRecorder("O", trace),
        RecordingCallback("N", trace),
        FirstRecorder("F", trace),
    )
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(tmp_path, [*kinds], max_epochs=1, num_sanity_val_steps=0).fit(FailingModule())
    end = ["F.on_exception", "N.on_exception", "O.on_exception", "L.on_exception"]
    assert trace.names[-8:] == [*end, "F.teardown", "N.teardown", "O.teardown", "L.teardown"]


def test_several_loaders_pass_dataloader_idx_and_one_does_not(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)])
    # Positions of batch_idx (and of dataloader_idx after it) among the arguments of each call.
    batch_idx = {"on_{}_batch_start": (3, 1), "on_{}_batch_end": (4, 2), "{}_step": (None, 1)}
    for entry_point, stage in (("validate", "validation"), ("test", "test"), ("predict", "predict")):
        for loaders, expected in (
            ([loader(2), loader(1)], [(0, 0), (1, 0), (0, 1)]),
            ([loader(2)], [(0,), (1,)]),
            (loader(2), [(0,), (1,)]),
        ):
            trace.events.clear()
            getattr(trainer, entry_point)(RecordingModule(trace), loaders)
            for hook, (of_callback, of_module) in batch_idx.items():
                name = hook.format(stage)
                assert [args[of_module:] for args in trace.calls("M", name)] == expected
                if of_callback is not None:
                    assert [args[of_callback:] for args in trace.calls("C", name)] == expected
            for hook in (f"on_{stage}_start", f"on_{stage}_epoch_start", f"on_{stage}_epoch_end", f"on_{stage}_end"):
                assert len(trace.calls("C", hook)) == len(trace.calls("M", hook)) == 1


def test_validation_inside_fit_passes_dataloader_idx_with_several_loaders_and_training_never(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(RecordingModule(trace), loader(2), [loader(1), loader(2)])
    assert [args[3:] for args in trace.calls("C", "on_validation_batch_start")] == [(0, 0), (0, 1), (1, 1)]
    assert [args[4:] for args in trace.calls("C", "on_validation_batch_end")] == [(0, 0), (0, 1), (1, 1)]
    assert [args[1:] for args in trace.calls("M", "validation_step")] == [(0, 0), (0, 1), (1, 1)]
    assert [args[3:] for args in trace.calls("C", "on_train_batch_start")] == [(0,), (1,)]
    assert [args[4:] for args in trace.calls("C", "on_train_batch_end")] == [(0,), (1,)]
    assert [args[1:] for args in trace.calls("M", "training_step")] == [(0,), (1,)]


def test_transfer_hooks_always_get_the_index_of_the_loader(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(RecordingModule(trace), loader(2), [loader(1), loader(1)])
    expected = [0, 0, 0, 1]
    assert [args[1] for args in trace.calls("M", "on_before_batch_transfer")] == expected
    assert [args[2] for args in trace.calls("M", "transfer_batch_to_device")] == expected
    assert [args[1] for args in trace.calls("M", "on_after_batch_transfer")] == expected


def test_a_module_that_returns_minus_one_ends_the_epoch_without_that_batch_or_validation(tmp_path: Path) -> None:
    class SkippingModule(RecordingModule):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
            super().on_train_batch_start(batch, batch_idx)
            return -1 if batch_idx == 1 else None

    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(SkippingModule(trace))
    start = trace.names.index("M.on_train_start") + 1
    end = trace.names.index("C.on_train_end")
    assert trace.names[start:end] == lines(EPOCH_ENDED_BY_THE_MODULE) * 2
    assert trainer.current_epoch == 2
    assert trainer.global_step == 2


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_window_that_the_module_cut_off_is_forgotten_in_the_next_epoch(tmp_path: Path) -> None:
    class SkippingModule(RecordingModule):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
            return -1 if batch_idx == 1 else None

    trace = Trace()
    trainer = make_trainer(tmp_path, [], max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=0)
    trainer.fit(SkippingModule(trace))
    wanted = ("training_step", "optimizer_zero_grad", "optimizer_step", "on_train_epoch_end")
    assert [hook for hook in trace.of("M") if hook in wanted] == lines("""
        training_step optimizer_zero_grad on_train_epoch_end
        training_step optimizer_zero_grad on_train_epoch_end
    """)
    assert trainer.global_step == 0


def test_what_a_callback_returns_changes_nothing(tmp_path: Path) -> None:
    class MinusOne(RecordingCallback):
        def on_train_batch_start(self, *args: Any) -> Any:
            super().on_train_batch_start(*args)
            return -1

    trace = Trace()
    make_trainer(tmp_path, [MinusOne("C", trace)], max_epochs=1, num_sanity_val_steps=0).fit(RecordingModule(trace))
    assert trace.of("C").count("on_train_batch_start") == 3
    assert trace.of("C").count("on_train_batch_end") == 3
    assert trace.of("M").count("training_step") == 3


def test_a_training_step_that_returns_none_skips_backward_and_hands_empty_outputs_to_callbacks(tmp_path: Path) -> None:
    class LosslessModule(RecordingModule):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)

    trace = Trace()
    trainer = make_trainer(tmp_path, [RecordingCallback("C", trace)], max_epochs=1, limit_val_batches=0)
    trainer.fit(LosslessModule(trace, train_batches=1))
    start, end = trace.names.index("C.on_train_batch_start"), trace.names.index("M.on_train_batch_end")
    assert trace.names[start : end + 1] == lines(BATCH_WITHOUT_A_LOSS)
    assert [args[2] for args in trace.calls("C", "on_train_batch_end")] == [{}]


def test_validation_in_the_middle_of_an_accumulation_window_keeps_the_gradients(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(
        tmp_path,
        [RecordingCallback("C", trace)],
        max_epochs=1,
        val_check_interval=1,
        accumulate_grad_batches=2,
        num_sanity_val_steps=0,
    )
    trainer.fit(RecordingModule(trace))
    wanted = set(lines(VALIDATION_AFTER_EACH_BATCH))
    assert [name for name in trace.names if name in wanted] == lines(VALIDATION_AFTER_EACH_BATCH)


# What comes after (trainer, pl_module) in each hook of a callback, by type.
ARGUMENTS: dict[str, tuple[type, ...]] = {
    "setup": (str,),
    "teardown": (str,),
    "on_fit_start": (),
    "on_fit_end": (),
    "on_sanity_check_start": (),
    "on_sanity_check_end": (),
    "on_train_start": (),
    "on_train_end": (),
    "on_train_epoch_start": (),
    "on_train_epoch_end": (),
    "on_train_batch_start": (list, int),
    "on_train_batch_end": (dict, list, int),
    "on_validation_start": (),
    "on_validation_end": (),
    "on_validation_epoch_start": (),
    "on_validation_epoch_end": (),
    "on_validation_batch_start": (list, int),
    "on_validation_batch_end": (type(None), list, int),
    "on_test_start": (),
    "on_test_end": (),
    "on_test_epoch_start": (),
    "on_test_epoch_end": (),
    "on_test_batch_start": (list, int),
    "on_test_batch_end": (type(None), list, int),
    "on_predict_start": (),
    "on_predict_end": (),
    "on_predict_epoch_start": (),
    "on_predict_epoch_end": (),
    "on_predict_batch_start": (list, int),
    "on_predict_batch_end": (torch.Tensor, list, int),
    "on_before_zero_grad": (torch.optim.Optimizer,),
    "on_before_backward": (torch.Tensor,),
    "on_after_backward": (),
    "on_before_optimizer_step": (torch.optim.Optimizer,),
    "on_after_optimizer_step": (torch.optim.Optimizer,),
    "on_save_checkpoint": (dict,),
    "on_load_checkpoint": (dict,),
    "on_checkpoint_saved": (str,),
}


def test_every_hook_gets_the_arguments_of_the_reference(tmp_path: Path) -> None:
    trace = Trace()
    saver = Saver(trace, tmp_path)
    trainer = make_trainer(tmp_path, [saver, RecordingCallback("C", trace)], max_epochs=1, num_sanity_val_steps=1)
    module = RecordingModule(trace, train_batches=1)
    trainer.fit(module)
    trainer.validate(module, ckpt_path=saver.path(0))
    trainer.test(module)
    trainer.predict(module)

    of_callback: dict[str, list[Event]] = {hook: [] for hook in ARGUMENTS}
    of_module: dict[str, list[Event]] = {hook: [] for hook in ARGUMENTS}
    for event in trace.events:
        if event.hook in ARGUMENTS and event.who in ("C", "M"):
            (of_callback if event.who == "C" else of_module)[event.hook].append(event)
    for hook, types in ARGUMENTS.items():
        assert of_callback[hook], hook
        for event in of_callback[hook]:
            assert event.args[0] is trainer
            assert event.args[1] is module
            assert len(event.args) == 2 + len(types), hook
            assert all(isinstance(arg, kind) for arg, kind in zip(event.args[2:], types, strict=True)), hook
        if hook in SHARED_HOOKS:
            assert len(of_module[hook]) == len(of_callback[hook])
            for event, twin in zip(of_module[hook], of_callback[hook], strict=True):
                assert [id(arg) for arg in event.args] == [id(arg) for arg in twin.args[2:]], hook
        else:
            assert not of_module[hook]
    for hook in ("setup", "teardown"):
        assert [args[2] for args in trace.calls("C", hook)] == ["fit", "validate", "test", "predict"]
    assert [Path(args[2]) for args in trace.calls("C", "on_checkpoint_saved")] == [saver.path(0)]
