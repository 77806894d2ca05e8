"""What a trainer answers, hook by hook, in fit, validate, test and predict: the same as Lightning's, or else noted.

The table was written down by this very script's steps under Lightning 2.6.6. Where a cell reads `a|b`, Lightning
answers a and hookloop b:

- `train`, `val`, `sanity`, `test`: numbers of batches are those of the running entry point, 0 or "-" before its loaders
  are there. Lightning answers inf before, and what an earlier entry point left behind afterwards.
- `last`: whether the running batch is its epoch's last. Between epochs, and after training, no batch runs.
- `ckpt`: the file that the running entry point was given is known in its first hook. Lightning sets it after setup, and
  shows the former one until then.
- `metrics`: those of the running entry point. Lightning shows the former one's in setup.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger

COLUMNS = "hook fn stage status is asked epoch step last train val sanity test predict optimizers ckpt metrics"

# is: which of training, validating, testing, predicting and Sanity_checking is True. asked: should_stop, interrupted,
# received_sigterm. Hooks are written without on_; (before) and (after) are outside of any.
TABLE = """
(before)               None     None         initializing - - 0 0 F   inf|0 -   -   -   - 0 -        -
setup                  fit      train        running      t - 0 0 F   inf|0 -   -   -   - 0 -        -
fit_start              fit      train        running      t - 0 0 F   inf|0 -   -   -   - 1 -        -
sanity_check_start     fit      sanity_check running      S - 0 0 F   inf|0 -   -   -   - 1 -        -
validation_start       fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        -
validation_epoch_start fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        -
validation_batch_start fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        -
validation_batch_end   fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        -
validation_epoch_end   fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        val
validation_end         fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        val
sanity_check_end       fit      sanity_check running      S - 0 0 F   inf|0 2   1   -   - 1 -        val
train_start            fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        -
train_epoch_start      fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        -
train_batch_start      fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        -
before_zero_grad       fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
before_backward        fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
after_backward         fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
train_batch_end        fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
train_batch_start      fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
before_backward        fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
after_backward         fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
before_optimizer_step  fit      train        running      t - 0 0 F   3     2   1   -   - 1 -        loss
train_batch_end        fit      train        running      t - 0 1 F   3     2   1   -   - 1 -        loss
train_batch_start      fit      train        running      t - 0 1 T   3     2   1   -   - 1 -        loss
before_zero_grad       fit      train        running      t - 0 1 T   3     2   1   -   - 1 -        loss
before_backward        fit      train        running      t - 0 1 T   3     2   1   -   - 1 -        loss
after_backward         fit      train        running      t - 0 1 T   3     2   1   -   - 1 -        loss
before_optimizer_step  fit      train        running      t - 0 1 T   3     2   1   -   - 1 -        loss
train_batch_end        fit      train        running      t - 0 2 T   3     2   1   -   - 1 -        loss
validation_start       fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_epoch_start fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_batch_start fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_batch_end   fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_batch_start fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_batch_end   fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss
validation_epoch_end   fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss+val
validation_end         fit      validate     running      v - 0 2 T   3     2   1   -   - 1 -        loss+val
train_epoch_end        fit      train        running      t - 0 2 T   3     2   1   -   - 1 -        loss+val
train_epoch_start      fit      train        running      t - 1 2 T|F 3     2   1   -   - 1 -        loss+val
train_batch_start      fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
before_zero_grad       fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
before_backward        fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
after_backward         fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
train_batch_end        fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
train_batch_start      fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
before_backward        fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
after_backward         fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
before_optimizer_step  fit      train        running      t - 1 2 F   3     2   1   -   - 1 -        loss+val
train_batch_end        fit      train        running      t - 1 3 F   3     2   1   -   - 1 -        loss+val
train_batch_start      fit      train        running      t - 1 3 T   3     2   1   -   - 1 -        loss+val
before_zero_grad       fit      train        running      t - 1 3 T   3     2   1   -   - 1 -        loss+val
before_backward        fit      train        running      t - 1 3 T   3     2   1   -   - 1 -        loss+val
after_backward         fit      train        running      t - 1 3 T   3     2   1   -   - 1 -        loss+val
before_optimizer_step  fit      train        running      t - 1 3 T   3     2   1   -   - 1 -        loss+val
train_batch_end        fit      train        running      t - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_start       fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_epoch_start fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_batch_start fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_batch_end   fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_batch_start fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_batch_end   fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_epoch_end   fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
validation_end         fit      validate     running      v - 1 4 T   3     2   1   -   - 1 -        loss+val
train_epoch_end        fit      train        running      t - 1 4 T   3     2   1   -   - 1 -        loss+val
train_end              fit      train        running      t - 2 4 T|F 3     2   1   -   - 1 -        loss+val
fit_end                fit      train        running      t - 2 4 T|F 3     2   1   -   - 1 -        loss+val
teardown               fit      train        running      t - 2 4 T|F 3     2   1   -   - 1 -        loss+val
(after)                fit      None         finished     - - 2 4 T|F 3     2   1   -   - 1 -        loss+val
setup                  validate validate     running      v - 2 4 T|F 3|0   -   1|- -   - 1 -        loss+val|-
validation_start       validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_epoch_start validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_batch_start validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_batch_end   validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_batch_start validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_batch_end   validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        -
validation_epoch_end   validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        val
validation_end         validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        val
teardown               validate validate     running      v - 2 4 T|F 3|0   2   1   -   - 1 -        val
(after)                validate None         finished     - - 2 4 T|F 3|0   2   1   -   - 1 -        val
setup                  test     test         running      e - 2 4 T|F 3|0   2|- 1|- -   - 1 -|a.ckpt val|-
test_start             test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   -
test_epoch_start       test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   -
test_batch_start       test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   -
test_batch_end         test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   -
test_epoch_end         test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   tested
test_end               test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   tested
teardown               test     test         running      e - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   tested
(after)                test     None         finished     - - 2 4 T|F 3|0   2|- 1|- 1   - 1 a.ckpt   tested
setup                  predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- - 1 a.ckpt|- tested|-
predict_start          predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
predict_epoch_start    predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
predict_batch_start    predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
predict_batch_end      predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
predict_epoch_end      predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
predict_end            predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
teardown               predict  predict      running      p - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
(after)                predict  None         finished     - - 2 4 T|F 3|0   2|- 1|- 1|- 1 1 -        -
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
HOOKS = sorted({row[0] for row in ROWS if not row[0].startswith("(")})


def letters(trainer: Trainer, names: dict[str, str]) -> str:
    answers = {letter: getattr(trainer, name) for letter, name in names.items()}
    assert all(isinstance(answer, bool) for answer in answers.values())
    return "".join(letter for letter, answer in answers.items() if answer) or "-"


def numbers(counts: list[float]) -> str:
    return ",".join(str(int(count)) for count in counts) or "-"


STAGES = {"t": "training", "v": "validating", "e": "testing", "p": "predicting", "S": "sanity_checking"}
REQUESTS = {"s": "should_stop", "i": "interrupted", "r": "received_sigterm"}


def answers(trainer: Trainer) -> list[str]:
    """One row of the table, without its first cell."""
    assert len(trainer.optimizers) == len(trainer.lr_scheduler_configs)
    return [
        *(str(trainer.state.fn), str(trainer.state.stage), str(trainer.state.status)),
        *(letters(trainer, STAGES), letters(trainer, REQUESTS)),
        *(str(trainer.current_epoch), str(trainer.global_step), "T" if trainer.is_last_batch else "F"),
        numbers([trainer.num_training_batches]),
        *(numbers(trainer.num_val_batches), numbers(trainer.num_sanity_val_batches)),
        *(numbers(trainer.num_test_batches), numbers(trainer.num_predict_batches)),
        str(len(trainer.optimizers)),
        Path(trainer.ckpt_path).name if trainer.ckpt_path else "-",
        "+".join(sorted(trainer.callback_metrics)) or "-",
    ]


class Writes(Callback):
    def __init__(self, rows: list[list[str]]) -> None:
        self.rows = rows
        for hook in HOOKS:
            name = hook if hook in ("setup", "teardown") else f"on_{hook}"
            setattr(self, name, self.writing(hook))

    def writing(self, hook: str) -> Callable[..., None]:
        def write(trainer: Trainer, *args: Any) -> None:
            self.rows.append([hook, *answers(trainer)])

        return write


class Logs(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val", self.layer(batch).mean())

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("tested", self.layer(batch).mean())

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        prediction: Tensor = self.layer(batch)
        return prediction

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def batches(count: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(2 * count, 2), batch_size=2)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What a trainer told in the four entry points, one after the other."""
    root = tmp_path_factory.mktemp("table")
    rows: list[list[str]] = []
    module = Logs()
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=CSVLogger(root, name="runs", version=0),
        default_root_dir=root,
        callbacks=[Writes(rows)],
        num_sanity_val_steps=1,
        log_every_n_steps=1,
        accumulate_grad_batches=2,
        registered_callbacks=False,
    )
    path = root / "a.ckpt"
    rows.append(["(before)", *answers(trainer)])
    trainer.fit(module, batches(3), batches(2))
    rows.append(["(after)", *answers(trainer)])
    trainer.save_checkpoint(path)
    trainer.validate(module, batches(2), verbose=False)
    rows.append(["(after)", *answers(trainer)])
    trainer.test(module, batches(1), ckpt_path=path, verbose=False)
    rows.append(["(after)", *answers(trainer)])
    trainer.predict(module, batches(1))
    rows.append(["(after)", *answers(trainer)])
    return rows


def test_the_hooks_run_in_the_order_of_the_table(told: list[list[str]]) -> None:
    assert [row[0] for row in told] == [row[0] for row in ROWS]


@pytest.mark.parametrize("column", COLUMNS.split()[1:])
def test_the_trainer_answers_in_every_hook_what_the_table_says(column: str, told: list[list[str]]) -> None:
    index = COLUMNS.split().index(column)
    ours = [(row[0], row[index].rpartition("|")[2]) for row in ROWS]
    assert [(row[0], row[index]) for row in told] == ours


def test_what_differs_from_lightning_is_what_is_said_above() -> None:
    different = {name for row in ROWS for name, cell in zip(COLUMNS.split(), row, strict=True) if "|" in cell}
    assert different == {"last", "train", "val", "sanity", "test", "ckpt", "metrics"}
    # Within a fit, Lightning is followed in everything but what it has not asked for yet, or does not put back.
    in_a_fit = [row for row in ROWS if row[1] == "fit" and row[0] != "(after)"]
    assert {row[0] for row in in_a_fit if "|" in row[8]} == {"train_epoch_start", "train_end", "fit_end", "teardown"}
    assert {cell for row in in_a_fit for cell in row[9:] if "|" in cell} == {"inf|0"}


# What stays the same in every hook


def test_places_and_ranks_are_the_same_in_every_hook(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="runs", version=0)
    seen: set[tuple[Any, ...]] = set()

    class Asks(Callback):
        def __init__(self) -> None:
            for hook in HOOKS:
                setattr(self, hook if hook in ("setup", "teardown") else f"on_{hook}", self.ask)

        def ask(self, trainer: Trainer, *args: Any) -> None:
            strategy = trainer.strategy
            seen.add(
                (
                    *(trainer.log_dir, trainer.default_root_dir, trainer.device, strategy.root_device),
                    *(trainer.is_global_zero, trainer.global_rank, trainer.local_rank, trainer.node_rank),
                    *(trainer.world_size, trainer.num_devices, trainer.num_nodes, tuple(trainer.device_ids)),
                    *(strategy.broadcast("told"), strategy.reduce_boolean_decision(True)),
                    *(strategy.reduce(torch.tensor(2.0)).item(), tuple(strategy.all_gather(torch.ones(3)).shape)),
                    *(trainer.logger is logger, trainer.lightning_module is module, trainer.barebones),
                )
            )
            strategy.barrier("asked")

    module = Logs()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        default_root_dir=tmp_path,
        callbacks=[Asks()],
        registered_callbacks=False,
    )
    trainer.fit(module, batches(2), batches(1))
    trainer.validate(module, batches(1), verbose=False)
    trainer.test(module, batches(1), verbose=False)
    trainer.predict(module, batches(1))
    cpu = torch.device("cpu")
    assert seen == {
        (
            *(str(tmp_path / "runs" / "version_0"), str(tmp_path), cpu, cpu),
            *(True, 0, 0, 0, 1, 1, 1, (0,), "told", True, 2.0, (1, 3), True, True, False),
        )
    }


def test_limits_can_be_asked_for_as_they_were_passed(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "limit_train_batches": 3,
        "limit_val_batches": 0.5,
        "limit_test_batches": 7,
        "limit_predict_batches": 0.25,
        "num_sanity_val_steps": -1,
    }
    trainer = Trainer(**given, default_root_dir=tmp_path, registered_callbacks=False)
    assert {name: getattr(trainer, name) for name in given} == given
    assert Trainer(fast_dev_run=2, registered_callbacks=False).limit_test_batches == 2
    assert Trainer(barebones=True).barebones is True


def test_the_loaders_of_a_run_can_be_asked_for_as_they_were_given(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, registered_callbacks=False)
    module, test, predict = Logs(), batches(1), batches(2)
    assert (trainer.test_dataloaders, trainer.predict_dataloaders) == (None, None)
    trainer.test(module, test, verbose=False)
    assert trainer.test_dataloaders is test
    trainer.predict(module, predict)
    assert trainer.predict_dataloaders is predict
    assert trainer.test_dataloaders is None


def test_one_machine_and_one_process_are_what_a_trainer_can_be_asked_for() -> None:
    trainer = Trainer(num_nodes=1, devices=1, sync_batchnorm=False, accelerator="cpu", registered_callbacks=False)
    assert (trainer.num_nodes, trainer.num_devices, trainer.world_size) == (1, 1, 1)
    for arguments in ({"num_nodes": 2}, {"sync_batchnorm": True}, {"strategy": "ddp"}):
        with pytest.raises(MisconfigurationError, match="today hookloop trains"):
            Trainer(**arguments, registered_callbacks=False)


# Building a module where it will run


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("64-true", torch.float64),
        ("32-true", torch.float32),
        ("bf16-true", torch.bfloat16),
        ("16-true", torch.float16),
        ("bf16-mixed", torch.float32),
        ("16-mixed", torch.float32),
    ],
)
def test_init_module_makes_a_module_in_the_numbers_of_the_trainer(precision: str, dtype: torch.dtype) -> None:
    trainer = Trainer(accelerator="cpu", precision=precision, registered_callbacks=False)
    with trainer.init_module():
        module = Logs()
        assert torch.zeros(1).dtype == dtype
    assert (module.layer.weight.dtype, module.layer.weight.device) == (dtype, torch.device("cpu"))
    assert torch.zeros(1).dtype == torch.float32
    # It is the module that would have been made, in other numbers.
    assert bool((module.layer.weight != 0).any())


def test_init_module_may_leave_the_weights_as_the_memory_was() -> None:
    trainer = Trainer(accelerator="cpu", registered_callbacks=False)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with trainer.init_module(empty_init=True):
        module = Logs()
    # Nothing was drawn, so nothing was initialized; what is loaded is there.
    assert torch.equal(torch.get_rng_state(), before)
    weights = {name: torch.full_like(weight, 3.0) for name, weight in module.state_dict().items()}
    module.load_state_dict(weights)
    assert module.layer.weight.tolist() == [[3.0, 3.0]]
    with trainer.init_module():
        Logs()
    assert not torch.equal(torch.get_rng_state(), before)


def test_init_module_puts_everything_back_after_an_error() -> None:
    trainer = Trainer(accelerator="cpu", precision="64-true", registered_callbacks=False)
    with pytest.raises(RuntimeError, match="planted"), trainer.init_module(empty_init=True):
        raise RuntimeError("planted")
    assert torch.get_default_dtype() == torch.float32
    state = torch.get_rng_state()
    torch.nn.init.normal_(torch.empty(2))
    assert not torch.equal(torch.get_rng_state(), state)
