"""`check_callback`: all rules at once, without pytest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from hookloop import Callback, LightningModule
from hookloop.errors import CallbackContractError
from hookloop.testing.declared import hooks_can_be_called
from hookloop.testing.rules import RULES, Rule
from hookloop.testing.runs import NotTriedError, Subject, in_a_quiet_process
from hookloop.testing.tiny import TinyModule


@dataclass(frozen=True)
class Result:
    """What became of one rule.

    Attributes:
        rule: its name.
        outcome: "passed", "failed", or "not tried".
        text: what the callback did and how to mend it, or why it was not tried; "" if it passed.
    """

    rule: str
    outcome: Literal["passed", "failed", "not tried"]
    text: str = ""


@dataclass(frozen=True)
class Report:
    """What became of all rules; as text, a line for each.

    Attributes:
        callback: the name of the class.
        results: one for each rule, in the order in which they were tried.
        calls_per_step: Python calls that the callback adds to a training step, beside one that listens to every hook;
            None if that could not be counted.
    """

    callback: str
    results: tuple[Result, ...]
    calls_per_step: float | None

    @property
    def failed(self) -> tuple[Result, ...]:
        """The rules that the callback breaks."""
        return tuple(result for result in self.results if result.outcome == "failed")

    def __str__(self) -> str:
        lines = [f"{self.callback}:"]
        for result in self.results:
            lines.append(f"  {result.outcome:<9}  {result.rule.replace('_', ' ')}")
            if result.text:
                lines.append(f"             {result.text}")
        if self.calls_per_step is not None:
            lines.append(f"  It adds {self.calls_per_step:g} Python calls to a training step.")
        return "\n".join(lines)


def check_callback(
    factory: Callable[[], Callback],
    *,
    others: Sequence[Callable[[], Callback]] = (),
    changes_training: bool = False,
    lasting: Sequence[str] = (),
    varying: Sequence[str] = (),
    max_calls_per_step: float | None = None,
    module: Callable[[], LightningModule] = TinyModule,
    trainer_arguments: Mapping[str, Any] | None = None,
) -> Report:
    """Try a callback in real short runs on the CPU: some seconds, in a temporary folder, without pytest.

    Args:
        factory: makes the callback, for example its class; called for each run.
        others: the same for other configurations of the class, all of which may be in one run.
        changes_training: declares that it changes the module, the optimizers or the random state on purpose, so that
            this is no fault.
        lasting: what of the module stays changed after a run on purpose: "net.0.weight.requires_grad",
            "net.0.training", "net.0.hooks"; patterns as in file names.
        varying: keys of its state, and names of what it logs, that no two runs have the same, such as seconds;
            patterns as in file names.
        max_calls_per_step: Python calls that it may add to a training step. Default None: no limit.
        module: makes the module of the runs; one with all steps, for batches of `TinyDataModule`.
        trainer_arguments: of every Trainer, for a callback that needs some.

    Returns:
        What became of each rule, and what it costs.

    Raises:
        CallbackContractError: it breaks rules; the message has all of them, with what it did and how to mend it.
    """
    results: list[Result] = []
    cost: float | None = None
    with TemporaryDirectory() as folder:
        for index, rule in enumerate(RULES):
            subject = Subject(
                factory,
                Path(folder, str(index)),
                tuple(others),
                changes_training,
                tuple(lasting),
                tuple(varying),
                max_calls_per_step,
                module,
                dict(trainer_arguments or {}),
            )
            subject.folder.mkdir()
            result, added = tried(rule, subject)
            results.append(result)
            cost = cost if added is None else added
    report = Report(_name(factory), tuple(results), cost)
    if report.failed:
        raise CallbackContractError(f"{report.callback} breaks {len(report.failed)} of {len(RULES)} rules.\n{report}")
    return report


def tried(rule: Rule, subject: Subject) -> tuple[Result, float | None]:
    """What became of one rule, and the number that it returned."""
    name = rule.__name__
    try:
        with in_a_quiet_process():
            if rule is not hooks_can_be_called:
                _sound(subject)
            return Result(name, "passed"), rule(subject)
    except CallbackContractError as error:
        return Result(name, "failed", str(error)), None
    except NotTriedError as error:
        return Result(name, "not tried", f"{error}."), None


def _sound(subject: Subject) -> None:
    try:
        hooks_can_be_called(subject)
    except CallbackContractError as error:
        raise NotTriedError("it breaks the first rule, about its hooks") from error


def _name(factory: Callable[[], Callback]) -> str:
    try:
        return type(factory()).__name__
    except Exception:  # noqa: BLE001 - the first rule says so
        return getattr(factory, "__name__", repr(factory))
