"""Every argument of the Trainer and every public method of a module and a datamodule: documented, typed, tested.

Nothing here is a list: a new argument or method is in these tests by being there, and they fail until it has a
description, types, and a test that uses it by its name.
"""

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hookloop import LightningDataModule, LightningModule, Trainer

from .recording import CALLBACK_HOOKS, MODULE_HOOKS

HERE = Path(__file__)


class Used(ast.NodeVisitor):
    """What a file of tests uses by name: arguments that it passes, methods that it calls, defines or asks for."""

    def __init__(self) -> None:
        self.arguments: set[str] = set()
        # Recorders override these by name, and tests compare what they wrote down.
        self.members: set[str] = {*CALLBACK_HOOKS, *MODULE_HOOKS}

    def visit_Call(self, node: ast.Call) -> None:
        # Trainer(max_epochs=3), fit(..., max_epochs=3)
        self.arguments |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        # A table of arguments: {"max_epochs": 3}
        self.arguments |= {key.value for key in node.keys if isinstance(key, ast.Constant) and type(key.value) is str}
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.members.add(node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        # A table of attributes: ("limit_train_batches", 3)
        if isinstance(node.value, str) and node.value.isidentifier():
            self.members.add(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.members.add(node.name)
        self.generic_visit(node)


@pytest.fixture(scope="module")
def used() -> Used:
    # The tables of arguments hold every name by themselves, so they do not count, and neither does this file.
    used = Used()
    for path in sorted(HERE.parent.glob("test_*.py")):
        if path.name not in (HERE.name, "test_trainer_arguments.py"):
            used.visit(ast.parse(path.read_text(encoding="utf-8")))
    return used


ARGUMENTS = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
ENTRY_POINTS = ("fit", "validate", "test", "predict", "predict_iter", "save_checkpoint", "init_module")


def public_methods(owner: type) -> Iterator[tuple[str, Any]]:
    """What the class or one of hookloop's bases defines under a public name: functions and properties."""
    for base in reversed(owner.__mro__):
        if not base.__module__.startswith("hookloop"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if isinstance(member, classmethod | staticmethod):
                member = member.__func__
            if inspect.isfunction(member) or isinstance(member, property):
                yield name, member


METHODS = [
    pytest.param(owner, name, member, id=f"{owner.__name__}.{name}")
    for owner in (LightningModule, LightningDataModule)
    for name, member in dict(public_methods(owner)).items()
]
METHODS_OF_THE_TRAINER = [
    pytest.param(Trainer, name, member, id=f"Trainer.{name}") for name, member in dict(public_methods(Trainer)).items()
]


def test_the_generated_tests_see_what_there_is() -> None:
    seen = {parameter.id for parameter in METHODS if parameter.id is not None}
    assert {"LightningModule.training_step", "LightningModule.on_train_batch_end"} <= seen
    assert {"LightningModule.log", "LightningModule.device", "LightningDataModule.setup"} <= seen
    assert "LightningModule.forward" not in seen  # torch's
    assert not hasattr(nn.Module, "training_step")
    assert {"max_epochs", "deterministic", "registered_callbacks"} <= set(ARGUMENTS)


def described(section: str, text: str) -> dict[str, str]:
    """The entries of a section of a docstring, each with its words."""
    found = re.search(rf"^{section}:\n((?: .*\n|\n)+)", text + "\n", re.MULTILINE)
    entries: dict[str, str] = {}
    name = ""
    for line in (found[1] if found else "").splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name = match[1]
            entries[name] = match[2]
        elif name:
            entries[name] += f" {line.strip()}"
    return {name: words.strip() for name, words in entries.items()}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_the_trainer_is_described_in_its_docstring(name: str) -> None:
    words = described("Args", inspect.getdoc(Trainer) or "").get(name, "")
    assert len(words.split()) >= 3
    assert words.endswith(".")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_the_trainer_has_a_type_and_a_default_and_no_position(name: str) -> None:
    parameter = inspect.signature(Trainer.__init__).parameters[name]
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is not inspect.Parameter.empty
    assert typing.get_type_hints(Trainer.__init__)[name] is not Any


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_the_trainer_is_passed_by_name_in_some_test(name: str, used: Used) -> None:
    assert name in used.arguments


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_the_trainer_stands_on_the_page_about_it(name: str) -> None:
    page = HERE.parents[2] / "docs" / "trainer.md"
    if not page.exists():
        pytest.skip("installed without its documentation")
    assert re.search(rf"`{name}(=[^`]*)?`|{name}=", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("owner", "name", "member"), METHODS + METHODS_OF_THE_TRAINER)
def test_a_public_method_is_documented(owner: type, name: str, member: Any) -> None:
    # What a callback may ask of a trainer is described in the view.
    from hookloop.view import TrainerView

    shown = member.__doc__ or (owner is Trainer and inspect.getattr_static(TrainerView, name, member).__doc__)
    assert shown
    assert shown.strip().splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(("owner", "name", "member"), METHODS + METHODS_OF_THE_TRAINER)
def test_a_public_method_has_types(owner: type, name: str, member: Any) -> None:
    function: Any = member.fget if isinstance(member, property) else member
    hints = typing.get_type_hints(function)
    parameters = [parameter for parameter in inspect.signature(function).parameters if parameter not in ("self", "cls")]
    assert set(parameters) | {"return"} <= set(hints)


@pytest.mark.parametrize(("owner", "name", "member"), METHODS + METHODS_OF_THE_TRAINER)
def test_a_public_method_is_called_or_overridden_by_name_in_some_test(
    owner: type, name: str, member: Any, used: Used
) -> None:
    assert name in used.members


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_argument_of_an_entry_point_is_described_and_passed_in_some_test(entry_point: str, used: Used) -> None:
    method = getattr(Trainer, entry_point)
    text = inspect.getdoc(method) or ""
    if "those of `validate`" in text:
        text = inspect.getdoc(Trainer.validate) or ""
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]
    assert list(described("Args", text)) == parameters
    by_position = {"model", "train_dataloaders", "val_dataloaders", "filepath"}
    assert set(parameters) - by_position - used.arguments == set()
