"""Runs that are stopped and resumed: how one is put together, what is written down of it, and what has to be equal.

A `Case` is a whole configuration. `run` trains it and writes down, in order, every hook with what could be read of the
trainer in it, every batch with its contents, every random number, and every row that a logger got. A `Saver` saves in
any hook; what the resumed run then has to do is a slice of what the uninterrupted one did.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)
from torchmetrics import MeanMetric

from hookloop import Callback, LightningModule, Order
from hookloop.callback import HOOKS
from hookloop.loggers import Logger
from hookloop.utilities import CombinedLoader
from hookloop.view import TrainerView

from .fitting import equal, trainer_in

Event = tuple[Any, ...]
Events = list[Event]

# ------------------------------------------------------------------------------------------------------------- data


class Augmented(Dataset[Tensor]):
    """Each sample: its index, and a draw from each global generator. What is read in this process is written down."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Tensor:
        self.read.append(index)
        return torch.tensor([index, torch.rand(()).item(), random.random(), numpy.random.rand()])


class Pythonic(Sampler[int]):
    """Shuffles with Python's generator."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        return iter(random.sample(range(self.samples), self.samples))


class PerEpoch(Sampler[int]):
    """Shuffles by the number of the epoch that it is told, as torch's DistributedSampler does."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        assert self.epoch >= 0
        return iter(random.Random(self.epoch).sample(range(self.samples), self.samples))


class Remembering(Sampler[int]):
    """Begins each round one sample later than the one before: its state is its own, and it says what it is."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.rounds = 0

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        first, self.rounds = self.rounds, self.rounds + 1
        return iter([(first + index) % self.samples for index in range(self.samples)])

    def state_dict(self) -> dict[str, int]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.rounds = state["rounds"]


class Pairs(Sampler[list[int]]):
    """A batch sampler of one's own: neighbours stay together, the pairs are shuffled."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples // 2

    def __iter__(self) -> Iterator[list[int]]:
        for pair in torch.randperm(len(self)).tolist():
            yield [2 * pair, 2 * pair + 1]


class Stream(IterableDataset[Tensor]):
    """Has no index and no length, and draws nothing."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(self.samples):
            yield torch.full((4,), float(index))


class Knowing:
    """A loader that knows where it is, as torchdata's StatefulDataLoader does, and how long it is.

    Each iteration is another epoch, but for the first one after a state was loaded from the middle of one.
    """

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.next = 0
        self.rounds = 0
        self.finished = True
        self.loaded = False

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        if self.finished or not self.loaded:
            self.next, self.rounds, self.finished = 0, self.rounds + 1, False
        self.loaded = False
        return self._rest()

    def _rest(self) -> Iterator[Tensor]:
        while self.next < self.batches:
            self.next += 1
            yield torch.full((2, 4), float(self.next + 10 * self.rounds))
        self.finished = True

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next, "rounds": self.rounds, "finished": self.finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.next, self.rounds, self.finished = state["next"], state["rounds"], state["finished"]
        self.loaded = True


class Opening(DataLoader[Any]):
    """A loader that knows where it is, in the way of torchdata's StatefulDataLoader.

    Being opened draws a random number, and so does being asked for its state before that. A state that was loaded is
    where the next iteration begins; one from the middle of an epoch in which that is left is gone on with.
    """

    def __init__(self, batches: int) -> None:
        super().__init__(Augmented(2 * batches), batch_size=2)
        self.round: Round | None = None
        self.loaded: Mapping[str, Any] | None = None
        self.asked_before = False

    def __iter__(self) -> "Round":  # type: ignore[override]
        if self.round is None or not self.asked_before:
            self.round = self._open()
        self.asked_before = False
        if self.round.finished:
            self.round = self._open()
        return self.round

    def _open(self) -> "Round":
        state, self.loaded = self.loaded, None
        return Round(len(self), state)

    def state_dict(self) -> dict[str, Any]:
        if self.round is None:
            self.round, self.asked_before = self._open(), True
        return {"seed": self.round.seed, "next": self.round.next, "finished": self.round.finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.round, self.asked_before, self.loaded = None, False, state


class Round(Iterator[Tensor]):
    """One epoch of it, in an order of its own."""

    def __init__(self, batches: int, state: Mapping[str, Any] | None) -> None:
        self.seed, self.next, self.finished = int(torch.randint(1000, ())), 0, False
        if state is not None:
            self.seed, self.next, self.finished = state["seed"], state["next"], state["finished"]
        self.order = random.Random(self.seed).sample(range(batches), batches)

    def __next__(self) -> Tensor:
        if self.next == len(self.order):
            self.finished = True
            raise StopIteration
        self.next += 1
        return torch.full((2, 4), self.seed + self.order[self.next - 1] / 10)


LOADERS = (
    "plain",
    "shuffled",
    "own generator",
    "weighted",
    "with replacement",
    "python sampler",
    "set_epoch",
    "sampler with state",
    "batch sampler",
    "own batch sampler",
    "no batches",
    "stream",
    "knows where it is",
    "draws when opened",
    "max_size_cycle of those",
    "max_size of those",
    "min_size of those",
    "sequential of those",
    "one of two knows",
    "max_size_cycle",
    "max_size",
    "min_size",
    "sequential",
    "dict",
)


def training_loader(kind: str, batches: int, workers: int = 0, persistent: bool = False) -> Any:
    """A loader, or several, of so many batches of two samples."""
    samples = 2 * batches
    data = Augmented(samples)
    common: dict[str, Any] = {"num_workers": workers, "persistent_workers": persistent and workers > 0}

    def plain(number: int = samples, **more: Any) -> DataLoader[Any]:
        return DataLoader(Augmented(number), batch_size=2, **common, **more)

    if kind in ("max_size_cycle", "max_size", "min_size", "sequential"):
        seeded = torch.Generator().manual_seed(11)
        parts = [plain(5, shuffle=True), plain(shuffle=True), plain(samples - 2, shuffle=True, generator=seeded)]
        return CombinedLoader(parts, kind)  # type: ignore[arg-type]
    if kind.endswith(" of those"):
        return CombinedLoader([Opening(3), Opening(batches)], kind.removesuffix(" of those"))  # type: ignore[arg-type]
    match kind:
        case "draws when opened":
            return Opening(batches)
        case "one of two knows":
            return CombinedLoader([plain(shuffle=True), Opening(batches - 1)], "min_size")
        case "plain":
            return plain()
        case "shuffled":
            return plain(shuffle=True)
        case "own generator":
            return plain(shuffle=True, generator=torch.Generator().manual_seed(11))
        case "weighted":
            weights = [1.0 + index % 3 for index in range(samples)]
            return plain(sampler=WeightedRandomSampler(weights, samples))
        case "with replacement":
            return plain(sampler=RandomSampler(data, replacement=True, num_samples=samples))
        case "python sampler":
            return plain(sampler=Pythonic(samples))
        case "set_epoch":
            return plain(sampler=PerEpoch(samples))
        case "sampler with state":
            return plain(sampler=Remembering(samples))
        case "batch sampler":
            return DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 2, drop_last=True), **common)
        case "own batch sampler":
            return DataLoader(data, batch_sampler=Pairs(samples), **common)
        case "no batches":
            return DataLoader(Augmented(batches), batch_size=None, shuffle=True, **common)
        case "stream":
            return DataLoader(Stream(samples), batch_size=2, **common)
        case "knows where it is":
            return Knowing(batches)
        case "dict":
            return {"long": plain(shuffle=True), "short": plain(3)}
    raise AssertionError(kind)


def tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch.reshape(-1, 4)
    elif isinstance(batch, dict):
        for part in batch.values():
            yield from tensors(part)
    elif isinstance(batch, list | tuple):
        for part in batch:
            yield from tensors(part)


# -------------------------------------------------------------------------------------------------- what is run

SCHEDULERS = ("none", "step", "epoch", "plateau step", "plateau epoch", "one cycle")
OPTIMIZERS = ("sgd", "adam", "lbfgs", "manual", "manual accumulating")


@dataclass(frozen=True)
class Case:
    """A configuration. `arguments` are the Trainer's."""

    loader: str = "shuffled"
    batches: int = 4
    workers: int = 0
    persistent: bool = False
    validation: int = 0
    optimizer: str = "adam"
    scheduler: str = "none"
    frequency: int = 1
    patience: int | None = None
    reloads: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accumulate(self) -> int:
        return int(self.arguments.get("accumulate_grad_batches", 1))


class Noisy(LightningModule):
    """Supplies its loaders, drops out, draws from every generator, logs in every way, and writes everything down."""

    def __init__(self, case: Case, events: Events) -> None:
        super().__init__()
        self.case, self.events = case, events
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
            self.critic = nn.Linear(4, 1)
        self.mean = MeanMetric()
        self.automatic_optimization = not case.optimizer.startswith("manual")
        if not case.validation:
            self.val_dataloader = None  # type: ignore[assignment]

    def train_dataloader(self) -> Any:
        return training_loader(self.case.loader, self.case.batches, self.case.workers, self.case.persistent)

    def val_dataloader(self) -> Any:
        workers: dict[str, Any] = {"num_workers": self.case.workers, "persistent_workers": self.case.persistent}
        return [DataLoader(Augmented(4), batch_size=2, **workers) for _ in range(self.case.validation)]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        got = list(tensors(batch))
        self.events.append(("training_step", batch_idx, [part.tolist() for part in got], *draws()))
        dtype = self.critic.weight.dtype
        # Twice, because a batch norm needs more than one sample.
        loss: Tensor = sum((self.net(part.to(dtype).repeat(2, 1)).square().mean() for part in got), torch.zeros(()))
        self.mean.update(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("largest", loss, reduce_fx="max", on_step=False, on_epoch=True)
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        if batch_idx % 2:
            self.log("odd", float(batch_idx))
        if self.automatic_optimization:
            return loss
        return self._by_hand(got, loss, batch_idx)

    def _by_hand(self, got: list[Tensor], loss: Tensor, batch_idx: int) -> None:
        first, second = self.optimizers()
        self.manual_backward(loss)
        accumulates = self.case.optimizer == "manual accumulating"
        if not accumulates or batch_idx % 3 == 2:
            first.step()
            first.zero_grad()
        if batch_idx % 2 == 0:
            dtype = self.critic.weight.dtype
            other: Tensor = sum((self.critic(part.to(dtype)).square().mean() for part in got), start=torch.zeros(()))
            self.manual_backward(other)
            second.step()
            second.zero_grad()
        for scheduler in [self.lr_schedulers()] if self.case.scheduler != "none" else []:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(float(loss))
            else:
                scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        got = [part.tolist() for part in tensors(batch)]
        self.events.append(("validation_step", batch_idx, dataloader_idx, got, *draws()))
        noise = torch.rand(())
        self.log("val", noise, on_step=True, on_epoch=True, prog_bar=True)
        if dataloader_idx == 0:
            self.log("score", noise + self.critic.weight.sum().detach().abs(), add_dataloader_idx=False)

    def on_validation_model_eval(self) -> None:
        self.events.append(("on_validation_model_eval",))
        super().on_validation_model_eval()

    def configure_optimizers(self) -> Any:
        optimizers: list[torch.optim.Optimizer]
        match self.case.optimizer:
            case "sgd":
                optimizers = [torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)]
            case "adam":
                optimizers = [torch.optim.AdamW(self.parameters(), lr=0.01)]
            case "lbfgs":
                optimizers = [torch.optim.LBFGS(self.net.parameters(), lr=0.01, max_iter=2)]
            case _:
                optimizers = [
                    torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9),
                    torch.optim.Adam(self.critic.parameters(), lr=0.01),
                ]
        config: dict[str, Any] = {"frequency": self.case.frequency}
        first = optimizers[0]
        match self.case.scheduler:
            case "none":
                return optimizers
            case "step":
                config |= {"scheduler": CosineAnnealingLR(first, 20), "interval": "step"}
            case "epoch":
                config |= {"scheduler": StepLR(first, 1, 0.7), "interval": "epoch"}
            case "one cycle":
                total = self.trainer.estimated_stepping_batches
                total = 1000 if total == float("inf") else int(total)
                config |= {"scheduler": OneCycleLR(first, 0.05, 2 * total, cycle_momentum=False), "interval": "step"}
            case plateau:
                monitor = "score" if self.case.validation else "loss"
                config |= {"scheduler": ReduceLROnPlateau(first, patience=0, factor=0.8), "monitor": monitor}
                config |= {"interval": plateau.removeprefix("plateau "), "strict": False}
        return optimizers, [config]


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), random.random(), numpy.random.rand()


class Patience(Callback):
    """Asks to stop when a metric has not become smaller for so many looks; what it has seen is its state."""

    order = Order.MONITOR

    def __init__(self, patience: int, validates: bool) -> None:
        self.patience = patience
        self.best = float("inf")
        self.waited = 0
        if validates:
            self.on_validation_end = self.look  # type: ignore[assignment]
        else:
            self.on_train_epoch_end = self.look  # type: ignore[assignment]

    def look(self, trainer: TrainerView, *args: Any) -> None:
        metrics = trainer.callback_metrics
        if trainer.sanity_checking or not ("score" in metrics or "loss" in metrics):
            return
        now = float(metrics["score"] if "score" in metrics else metrics["loss"])
        self.waited = 0 if now < self.best else self.waited + 1
        self.best = min(now, self.best)
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class Rows(Logger):
    """Writes down every row that it is given."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.events.append(("row", step, dict(metrics)))


NOT_TOLD = ("on_save_checkpoint", "on_load_checkpoint", "on_checkpoint_saved", "state_dict", "load_state_dict")
TOLD = tuple(hook for hook in HOOKS if hook not in NOT_TOLD)


class Witness(Callback):
    """First in every hook: writes it down, with the trainer's counters and everything that was logged.

    And knows, by itself, where a resumed run has to begin that was saved now.
    """

    order = Order.FIRST

    def __init__(self, case: Case, events: Events) -> None:
        self.case, self.events = case, events
        self.trained_from: int | None = None
        self.window_from: int | None = None
        self.validation_from = 0
        self.steps = 0
        for hook in TOLD:
            setattr(self, hook, self._told(hook))

    def _told(self, hook: str) -> Any:
        def tell(trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
            batch_idx = next((one for one in args if type(one) is int), None)
            if hook == "on_train_batch_start" and batch_idx is not None and batch_idx % self.case.accumulate == 0:
                self.window_from = len(self.events)
            if hook == "on_train_batch_start":
                self.steps = trainer.global_step
            if hook == "on_validation_start":
                self.validation_from = len(self.events) - 1  # the module was told before
            self.events.append(
                (hook, batch_idx, trainer.current_epoch, trainer.global_step, trainer.should_stop, metrics_of(trainer))
            )
            if hook == "on_train_start":
                self.trained_from = len(self.events)

        return tell

    def can_go_on(self, trainer: TrainerView, hook: str) -> bool:
        """Not where weights have changed in the middle of a batch: by hand, or inside the step of LBFGS.

        And what this run knows nothing of is the beginning of a window in which it was resumed.
        """
        if hook not in (*IN_A_WINDOW, "on_after_optimizer_step") or trainer.sanity_checking:
            return True
        if self.case.optimizer == "lbfgs":
            return hook in ("on_train_batch_start", "on_after_optimizer_step")
        stepped = self.case.optimizer.startswith("manual") and trainer.global_step > self.steps
        return not stepped and (self.window_from is not None or hook == "on_after_optimizer_step")

    def goes_on_at(self, hook: str, trainer: TrainerView) -> int | None:
        """The event at which a run begins that is resumed from a save in this hook, by Order LAST; None: with none."""
        if hook in ("on_train_end", "on_fit_end", "teardown"):
            return None
        if self.trained_from is None or trainer.sanity_checking:
            return 0
        if hook in IN_A_WINDOW:
            return self.window_from
        if hook.startswith("on_validation") and hook != "on_validation_end":
            return self.validation_from
        return len(self.events)


IN_A_WINDOW = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def metrics_of(trainer: TrainerView) -> list[list[tuple[str, float]]]:
    return [
        sorted((name, float(value)) for name, value in values.items())
        for values in (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics)
    ]


@dataclass(frozen=True)
class Moment:
    """A save: the file, the hook and how often it had been called, and the event at which a resumed run goes on."""

    path: Path
    hook: str
    number: int
    goes_on_at: int | None
    steps: int


class Saver(Callback):
    """Last in every hook, where it saves if its turn has come."""

    order = Order.LAST

    def __init__(self, folder: Path, witness: Witness, hooks: tuple[str, ...], turns: Any) -> None:
        self.folder, self.witness, self.turns = folder, witness, turns
        self.calls = 0
        self.moments: list[Moment] = []
        for hook in hooks:
            setattr(self, hook, self._save(hook))

    def _save(self, hook: str) -> Any:
        def save(trainer: TrainerView, *args: Any) -> None:
            self.calls += 1
            if self.turns(self.calls - 1) and self.witness.can_go_on(trainer, hook):
                path = self.folder / f"{self.calls - 1}.ckpt"
                at = self.witness.goes_on_at(hook, trainer)
                trainer.save_checkpoint(path)
                self.moments.append(Moment(path, hook, self.calls - 1, at, trainer.global_step))

        return save


@dataclass
class Outcome:
    """What a run did, and where it ended: everything that a checkpoint of its end holds."""

    events: Events
    moments: list[Moment]
    end: dict[str, Any]
    calls: int

    @property
    def training(self) -> Events:
        """The events after on_train_start; none without it."""
        names = [event[0] for event in self.events]
        return self.events[names.index("on_train_start") + 1 :] if "on_train_start" in names else []

    def after(self, moment: Moment) -> Events:
        """What a run that is resumed from there has to do, from its on_train_start on."""
        if moment.goes_on_at is None:
            return []
        before = len(self.events) - len(self.training)
        events = self.events[max(moment.goes_on_at, before) :]
        if moment.hook == "on_after_optimizer_step":
            # What the batch gave is not there any more, so its last hook cannot be called.
            names = [event[0] for event in events]
            del events[names.index("on_train_batch_end")]
        return events


def run(
    case: Case,
    folder: Path,
    turns: Any = lambda number: False,
    hooks: tuple[str, ...] = TOLD,
    ckpt_path: Path | None = None,
    seed: int = 3,
) -> Outcome:
    """Train a case, saving at the given calls of the given hooks.

    Args:
        case: what is trained.
        folder: where it saves.
        turns: whether it saves in a call, by the call's number.
        hooks: in which it may save.
        ckpt_path: what it is resumed from.
        seed: of the random numbers; a resumed run does not depend on it.
    """
    folder.mkdir(exist_ok=True, parents=True)
    events: Events = []
    witness = Witness(case, events)
    saver = Saver(folder, witness, hooks, turns)
    callbacks: list[Callback] = [witness, saver]
    if case.patience is not None:
        callbacks.append(Patience(case.patience, validates=bool(case.validation)))
    seed_all(seed)
    arguments = {"log_every_n_steps": 1, "reload_dataloaders_every_n_epochs": case.reloads, **case.arguments}
    trainer = trainer_in(folder, *callbacks, logger=Rows(events), **arguments)
    trainer.fit(Noisy(case, events), ckpt_path=ckpt_path)
    path = folder / "end"
    trainer.save_checkpoint(path)
    end = torch.load(path, weights_only=True)
    return Outcome(events, saver.moments, end, saver.calls)


def seed_all(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number)


def assert_goes_on(straight: Outcome, moment: Moment, resumed: Outcome) -> None:
    """The resumed run did what the uninterrupted one did from the moment on, and ended where that one ended."""
    expected, got = straight.after(moment), resumed.training
    for number, (one, other) in enumerate(zip(expected, got, strict=False)):
        assert one == other, f"event {number} after {moment}:\n  {one}\n  {other}"
    assert [event[0] for event in expected] == [event[0] for event in got], moment
    assert_same_end(straight.end, resumed.end, str(moment))


def assert_same_end(one: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Two checkpoints hold the same, all of their parts."""
    assert sorted(one) == sorted(other), where
    for key in one:
        assert equal(in_order(one[key]), in_order(other[key])), f"{where}: {key}: {difference(one[key], other[key])}"


def difference(one: Any, other: Any) -> str:
    """Where two states differ first."""
    if isinstance(one, dict) and isinstance(other, dict) and set(one) == set(other):
        return next(
            f"{key}: {difference(one[key], other[key])}"
            for key in one
            if not equal(in_order(one[key]), in_order(other[key]))
        )
    return f"{one}, and {other}"


def in_order(values: Any) -> Any:
    """Dicts by their keys: the latest value of a key is the same, whenever the key came."""
    if isinstance(values, dict):
        return {key: in_order(values[key]) for key in sorted(values, key=str)}
    return values
