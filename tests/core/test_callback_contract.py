"""The contract for callbacks: each breach is caught by the rule meant for it, and by no other one."""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch

from hookloop import Callback, LightningModule, Order
from hookloop.errors import CallbackContractError
from hookloop.testing import Report, TinyModule, check_callback
from hookloop.testing.rules import RULES
from hookloop.view import TrainerView

Hook = Callable[..., None]


def kind(**members: Any) -> type[Callback]:
    """A class of callbacks with these hooks and attributes."""
    return type("Broken", (Callback,), {"__module__": __name__, **members})


def broken_by(factory: Callable[[], Callback], **declared: Any) -> dict[str, str]:
    """What each rule says that the callback breaks."""
    try:
        check_callback(factory, **declared)
    except CallbackContractError as error:
        told = str(error)
        headings = [line.strip().partition("  ") for line in told.splitlines() if line.startswith("  ")]
        failed = [name.strip().replace(" ", "_") for outcome, _, name in headings if outcome == "failed"]
        return dict.fromkeys(failed, told)
    return {}


# ------------------------------------------------------------------------------------------------- one by one


def raises(self: Callback, *arguments: Any) -> None:
    raise LookupError("planted")


def raises_in_validate(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    if trainer.state.fn == "validate":
        raise LookupError("planted")


def writes_a_file(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    Path(trainer.default_root_dir, "notes.txt").write_text("done")


def uses_the_logger(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    assert trainer.log_dir
    logger: Any = trainer.logger
    assert logger.name is not None


def without_dataloader_idx(
    self: Callback, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
) -> None:
    pass


def reads_the_loss(
    self: Callback, trainer: TrainerView, pl_module: LightningModule, outputs: Any, *arguments: Any
) -> None:
    assert outputs["loss"] is not None


def reads_the_validation(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    assert trainer.num_val_batches[0] > 0


class Counts(Callback):
    """Counts batches, and remembers that over restarts."""

    def __init__(self) -> None:
        self.n = 0

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.n += 1

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.n = state_dict["n"]


class SharesAKey(Counts):
    def __init__(self, unit: str = "volts") -> None:
        super().__init__()
        self.unit = unit


class HasAKeyOfItsOwn(Counts):
    @property
    def state_key(self) -> str:
        return f"HasAKeyOfItsOwn[{id(self)}]"


class ChangesItsKey(Counts):
    @property
    def state_key(self) -> str:
        return f"ChangesItsKey[{self.n > 3}]"


class HasALock(Counts):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lock": threading.Lock()}


class HasAnObject(Counts):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "object": TinyModule()}


class StopsByACountThatItForgets(Callback):
    def __init__(self) -> None:
        self.n = 0

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        self.n += 1
        if self.n == 13:
            trainer.should_stop = True


class NeverLoads(Counts):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def changes_weights(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    with torch.no_grad():
        next(pl_module.parameters()).mul_(0.5)


def draws(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    torch.rand(1)


def halves_the_rate(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    trainer.optimizers[0].param_groups[0]["lr"] *= 0.5


def clips(self: Callback, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
    torch.nn.utils.clip_grad_value_(pl_module.parameters(), 1e-3)


def leaves_eval_mode(self: Callback, trainer: TrainerView, pl_module: LightningModule) -> None:
    next(part for part in pl_module.modules() if isinstance(part, torch.nn.Dropout)).eval()


def sets_a_flag(self: Callback, *arguments: Any) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)


def clears_the_flag(self: Callback, *arguments: Any) -> None:
    torch.use_deterministic_algorithms(False)


def takes_a_signal(self: Callback, *arguments: Any) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: None)


def sets_a_variable(self: Callback, *arguments: Any) -> None:
    os.environ["PLANTED"] = "1"


def freezes(self: Callback, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
    next(pl_module.parameters()).requires_grad_(False)


def hooks_into_the_module(self: Callback, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
    pl_module.register_forward_hook(lambda *arguments: None)


class LeavesAFileOpen(Callback):
    files: list[TextIO] = []  # noqa: RUF012 - so that nobody closes them

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run:
            self.files.append(Path(trainer.default_root_dir, "open.txt").open("w"))  # noqa: SIM115 - the breach


class LeavesAThread(Callback):
    ends = threading.Event()

    def on_train_start(self, *arguments: Any) -> None:
        threading.Thread(target=self.ends.wait, name="planted", daemon=True).start()


class TearsDownWhatIsNotThere(Callback):
    handle: Any = None

    def on_fit_start(self, *arguments: Any) -> None:
        self.handle = object()

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.handle is None:
            raise LookupError("nothing to close")


class CannotBeUsedAgain(Callback):
    running = False

    def setup(self, *arguments: Any) -> None:
        if self.running:
            raise LookupError("still running")
        self.running = True

    def on_fit_end(self, *arguments: Any) -> None:
        self.running = False


class CountsTheMetricsThatItSees(Callback):
    def __init__(self) -> None:
        self.seen = 0

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.seen = len(trainer.callback_metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Costs(Callback):
    def on_train_batch_end(self, *arguments: Any) -> None:
        for _ in range(9):
            self.work()

    def work(self) -> None: ...


def a_factory_that_raises() -> Callback:
    raise LookupError("planted")


def a_factory_of_something_else() -> Any:
    return Callback


def a_factory_of_one_object() -> Callback:
    return SHARED


SHARED = Callback()

BREACHES: dict[str, tuple[Callable[[], Callback], dict[str, Any], str, str]] = {
    "a misspelt hook": (
        kind(on_train_batch_ends=raises),
        {},
        "hooks_can_be_called",
        r"Broken\.on_train_batch_ends is no hook, .* Rename it to on_train_batch_end",
    ),
    "a signature": (
        kind(on_train_start=lambda self, trainer: None),
        {},
        "hooks_can_be_called",
        r"takes \(trainer\), and it is called with \(trainer, pl_module\)",
    ),
    "an order": (kind(order="first"), {}, "hooks_can_be_called", r"Broken\.order is 'first'"),
    "declared names": (kind(conflicts="x"), {}, "hooks_can_be_called", r"Broken\.conflicts is 'x'"),
    "a version without a migration": (kind(state_version=2), {}, "hooks_can_be_called", "Define migrate_state"),
    "one object for all runs": (
        a_factory_of_one_object,
        {},
        "hooks_can_be_called",
        "is the same object each time",
    ),
    "a factory that raises": (
        a_factory_that_raises,
        {},
        "hooks_can_be_called",
        "There is no callback to try: making the callback raised LookupError: planted",
    ),
    "a factory of something else": (
        a_factory_of_something_else,
        {},
        "hooks_can_be_called",
        "which is no Callback",
    ),
    "a fit that fails": (
        kind(on_train_batch_start=raises),
        {},
        "works_in_fit",
        r"Broken made a fit fail: LookupError: planted \(test_callback_contract\.py:\d+\)",
    ),
    "a hook that wants a dataloader_idx": (
        kind(on_test_batch_start=lambda self, trainer, pl_module, batch, batch_idx, dataloader_idx: None),
        {},
        "works_in_test",
        "there is one loader, so it is called without dataloader_idx",
    ),
    "a validation that fails": (
        kind(on_validation_start=raises_in_validate),
        {},
        "works_in_validate",
        r"made trainer\.validate fail: LookupError",
    ),
    "a test that fails": (kind(on_test_epoch_end=raises), {}, "works_in_test", r"made trainer\.test fail: LookupError"),
    "a prediction that fails": (kind(on_predict_end=raises), {}, "works_in_predict", r"made trainer\.predict fail"),
    "files of a trial run": (
        kind(on_train_end=writes_a_file),
        {},
        "works_in_a_fast_dev_run",
        r"left files in a fast_dev_run: .*notes\.txt\. Write nothing",
    ),
    "no logger": (
        kind(on_train_start=uses_the_logger),
        {},
        "works_without_a_logger",
        r"made runs with logger=False fail: AttributeError: 'NoneType' .* \(test_callback_contract\.py:\d+\)\.",
    ),
    "several loaders": (
        kind(on_validation_batch_end=without_dataloader_idx),
        {},
        "works_with_several_loaders",
        r"made runs with two loaders in each stage fail: .*there are several loaders",
    ),
    "manual optimization": (
        kind(on_train_batch_end=reads_the_loss),
        {},
        "works_with_manual_optimization",
        r"made a fit with manual optimization and two optimizers fail: KeyError: 'loss'",
    ),
    "no validation": (
        kind(on_train_start=reads_the_validation),
        {},
        "works_without_validation",
        r"made a fit of a module that has no validation fail: IndexError",
    ),
    "a shared state_key": (
        SharesAKey,
        {"others": [lambda: SharesAKey("amps")]},
        "keys_tell_configurations_apart",
        "has the state_key 'SharesAKey' in two configurations, .* Define the property state_key",
    ),
    "a state_key for each object": (
        HasAKeyOfItsOwn,
        {},
        "keys_tell_configurations_apart",
        "has another state_key each time that it is made",
    ),
    "a state_key that changes": (
        ChangesItsKey,
        {},
        "keys_tell_configurations_apart",
        r"had the state_key 'ChangesItsKey\[False\]' before a run and 'ChangesItsKey\[True\]' after it",
    ),
    "a state that cannot be pickled": (
        HasALock,
        {},
        "state_can_be_saved",
        "has a state that cannot be pickled: TypeErr",
    ),
    "a state with objects": (HasAnObject, {}, "state_can_be_saved", "cannot be loaded with weights_only=True"),
    "a decision without a state": (
        StopsByACountThatItForgets,
        {},
        "resumes_as_if_never_stopped",
        r"stopped after its first epoch and resumed, trainer\.global_step: 16 instead of 13, where",
    ),
    "a state that is not taken over": (
        NeverLoads,
        {},
        "resumes_as_if_never_stopped",
        r"its state\['n'\]: 12 instead of 16",
    ),
    "other weights": (
        kind(on_validation_start=changes_weights),
        {},
        "leaves_training_alone",
        r"changed training in on_validation_start: weights\['net\.0\.weight'\]\[0, 0\]: .* declare changes_training",
    ),
    "random numbers": (
        kind(on_predict_start=draws),
        {},
        "leaves_training_alone",
        r"changed training in on_predict_start: random state\['of torch'\]\[\d+\]: .*isolated_random_state",
    ),
    "another learning rate": (
        kind(on_train_epoch_start=halves_the_rate),
        {},
        "leaves_training_alone",
        r"optimizers\[0\]\['param_groups'\]\[0\]\['lr'\]: 0\.025 instead of 0\.05",
    ),
    "other gradients": (
        kind(on_before_optimizer_step=clips),
        {},
        "leaves_training_alone",
        r"changed training in on_before_optimizer_step: gradients\['net\.0\.weight'\]",
    ),
    "a flag of torch": (
        kind(on_train_start=sets_a_flag, on_train_end=clears_the_flag),
        {},
        "gives_back_what_it_took",
        r"after an exception in on_\w+, torch\.are_deterministic_algorithms_enabled\(\) was False and is True\."
        " What setup or a later hook takes, teardown gives back",
    ),
    "a signal handler": (
        kind(setup=takes_a_signal),
        {},
        "gives_back_what_it_took",
        "after a fit that ended well, the handler of SIGUSR1 was",
    ),
    "an environment variable": (
        kind(on_test_start=sets_a_variable),
        {},
        "gives_back_what_it_took",
        "after a test that ended well, the environment variable PLANTED was None and is '1'",
    ),
    "frozen parameters": (
        kind(setup=freezes),
        {"changes_training": True},
        "gives_back_what_it_took",
        r"net\.0\.weight\.requires_grad was True and is False\. .* Name in `lasting`",
    ),
    "a mode": (
        kind(on_test_start=leaves_eval_mode, on_train_end=leaves_eval_mode),
        {"changes_training": True},
        "gives_back_what_it_took",
        r"after a fit that ended well, net\.3\.training was True and is False",
    ),
    "a hook of the module": (
        kind(setup=hooks_into_the_module),
        {},
        "gives_back_what_it_took",
        r"module\.hooks was 0 and is 1",
    ),
    "an open file": (LeavesAFileOpen, {}, "gives_back_what_it_took", r"open\.txt is still open"),
    "a thread": (LeavesAThread, {}, "gives_back_what_it_took", "the thread planted still runs"),
    "a teardown that raises": (
        TearsDownWhatIsNotThere,
        {},
        "gives_back_what_it_took",
        r"raised while a run was unwound after an exception in setup: TearsDownWhatIsNotThere\.teardown raised after",
    ),
    "a second use": (
        CannotBeUsedAgain,
        {},
        "gives_back_what_it_took",
        "cannot be used again after an exception in setup: LookupError: still running",
    ),
    "a place in the list": (
        CountsTheMetricsThatItSees,
        {},
        "place_does_not_matter",
        r"behind 1 other callbacks, its state\['seen'\]: \d+ instead of \d+, .* declare an `order`",
    ),
    "a price": (
        Costs,
        {"max_calls_per_step": 9},
        "costs_no_more_than_allowed",
        r"adds 10 Python calls to a training step, and 9 are allowed\.",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_caught_by_the_rule_meant_for_it_and_by_no_other(breach: str) -> None:
    factory, declared, rule, message = BREACHES[breach]
    LeavesAThread.ends = threading.Event()
    try:
        found = broken_by(factory, **declared)
    finally:
        LeavesAThread.ends.set()
        for file in LeavesAFileOpen.files:
            file.close()
        LeavesAFileOpen.files.clear()

    assert list(found) == [rule]
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        raise AssertionError(found[rule])


def test_every_rule_has_a_breach() -> None:
    planted = {rule for _, _, rule, _ in BREACHES.values()} | {"uses_public_names_alone"}
    assert planted == {rule.__name__ for rule in RULES}


PRIVATE = {
    "planted_package/__init__.py": "from planted_package.callback import Mine\n",
    "planted_package/callback.py": """
from hookloop import Callback
from planted_package.helper import look

class Mine(Callback):
    def on_train_start(self, trainer, pl_module):
        look(trainer)
""",
    "planted_package/helper.py": "def look(trainer):\n    return trainer._run\n",
    "planted_package/unused.py": "from hookloop.hooks import _label\n",
}


def test_private_names_are_found_in_what_the_class_imports_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in PRIVATE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    mine = importlib.import_module("planted_package").Mine

    found = broken_by(mine)

    assert list(found) == ["uses_public_names_alone"]
    told = found["uses_public_names_alone"]
    assert (
        f"Mine uses private names of hookloop: {tmp_path}/planted_package/helper.py:2: trainer._run. They may" in told
    )
    assert "unused.py" not in told


# ---------------------------------------------------------------------------------------------------- the good


class Good(Callback):
    """Does all that one may do, and gives everything back."""

    order = Order.MONITOR
    family = "good"

    def __init__(self, patience: int = 2) -> None:
        self.patience = patience
        self.best = float("inf")
        self.waited = 0
        self.drawn = 0.0
        self._handle: Any = None
        self._file: TextIO | None = None
        self._before = False

    @property
    def state_key(self) -> str:
        return f"Good[patience={self.patience}]"

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self._before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = not self._before
        self._handle = pl_module.register_forward_hook(lambda *arguments: None)
        if not trainer.fast_dev_run:
            self._file = Path(trainer.default_root_dir, "good.txt").open("a")  # noqa: SIM115 - teardown closes it

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        torch.backends.cudnn.benchmark = self._before
        self._handle.remove()
        if self._file is not None:
            self._file.close()

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        generator = torch.Generator().manual_seed(3)
        self.drawn = float(torch.rand(1, generator=generator))

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        value = trainer.callback_metrics.get("wavering")
        if trainer.sanity_checking or value is None:
            return
        self.waited = 0 if value < self.best else self.waited + 1
        self.best = min(self.best, float(value))
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = state_dict["best"], state_dict["waited"]


def test_a_good_callback_keeps_every_rule_and_its_cost_is_told() -> None:
    report = check_callback(Good, others=[lambda: Good(1), lambda: Good(3)])

    assert isinstance(report, Report)
    assert report.callback == "Good"
    assert [(each.rule, each.outcome, each.text) for each in report.results] == [
        (rule.__name__, "passed", "") for rule in RULES
    ]
    assert report.failed == ()
    # It overrides no hook of a step; what its hook of the module costs is torch's.
    assert report.calls_per_step is not None
    assert 0 < report.calls_per_step < 10
    assert str(report).startswith("Good:\n  passed     hooks can be called\n")


def test_the_cost_is_counted_against_a_callback_that_does_nothing() -> None:
    assert check_callback(Callback).calls_per_step == 0
    assert check_callback(Costs, max_calls_per_step=10).calls_per_step == 10
