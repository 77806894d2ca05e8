"""`CallbackContract`: a pytest class with a test for each rule."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hookloop import Callback, LightningModule
from hookloop.errors import CallbackContractError
from hookloop.testing.check import tried
from hookloop.testing.rules import RULES, Rule
from hookloop.testing.runs import Subject
from hookloop.testing.tiny import TinyModule


class CallbackContract:
    """Inherit from it in a file of tests, and define `callback`: pytest then tries it in real short runs.

        class TestMine(CallbackContract):
            def callback(self):
                return Mine()

    Attributes:
        changes_training: declares that the callback changes the module, the optimizers or the random state on purpose.
        lasting: what of the module stays changed after a run on purpose: "net.0.weight.requires_grad",
            "net.0.training", "net.0.hooks"; patterns as in file names.
        varying: keys of its state, and names of what it logs, that no two runs have the same, such as seconds;
            patterns as in file names.
        max_calls_per_step: Python calls that it may add to a training step; None is no limit.
        trainer_arguments: of every Trainer, for a callback that needs some.
        folder: an empty folder of the test's own, for a callback that wants a path.
    """

    changes_training: ClassVar[bool] = False
    lasting: ClassVar[Sequence[str]] = ()
    varying: ClassVar[Sequence[str]] = ()
    max_calls_per_step: ClassVar[float | None] = None
    trainer_arguments: ClassVar[dict[str, Any]] = {}

    folder: Path

    def callback(self) -> Callback:
        """A new callback; called for each run."""
        raise NotImplementedError(f"{type(self).__name__} has to define callback(self), which returns a new callback.")

    def others(self) -> Sequence[Callable[[], Callback]]:
        """Factories of the class in other configurations, all of which may be in one run. Default: none."""
        return ()

    def module(self) -> LightningModule:
        """A new module for a run. Default: a `TinyModule`."""
        return TinyModule()


def _test_of(rule: Rule) -> Callable[..., None]:
    def test(self: CallbackContract, tmp_path: Path, request: Any) -> None:
        __tracebackhide__ = True
        runs = tmp_path / "runs"
        self.folder = tmp_path / "own"
        for folder in (runs, self.folder):
            folder.mkdir()
        result, added = tried(
            rule,
            Subject(
                self.callback,
                runs,
                self.others(),
                self.changes_training,
                self.lasting,
                self.varying,
                self.max_calls_per_step,
                self.module,
                self.trainer_arguments,
            ),
        )
        if added is not None:
            # What the fixture record_property does, without its warning about formats of reports.
            request.node.user_properties.append(("calls_per_step", added))
            print(f"{self.callback().__class__.__name__} adds {added:g} Python calls to a training step.")
        if result.outcome == "failed":
            raise CallbackContractError(result.text)
        if result.outcome == "not tried":
            import pytest  # it runs this

            pytest.skip(result.text)

    test.__name__ = f"test_{rule.__name__}"
    test.__qualname__ = f"CallbackContract.{test.__name__}"
    test.__doc__ = rule.__doc__
    return test


for _rule in RULES:
    setattr(CallbackContract, f"test_{_rule.__name__}", _test_of(_rule))
