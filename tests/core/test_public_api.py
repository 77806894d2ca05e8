"""What the core offers: which names, where, and that each of them says what it is and takes."""

import builtins
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib.metadata import version
from importlib.resources import files
from types import FunctionType, ModuleType
from typing import Any

import pytest

import hookloop
from hookloop import errors
from hookloop.trainer.attributes import TrainerAttributes
from hookloop.view import TrainerView

# The names


FACES: dict[str, set[str]] = {
    "hookloop": {
        *("Callback", "LambdaCallback", "LightningDataModule", "LightningModule", "Order", "Trainer"),
        *("TrainerOptions", "seed_everything"),
    },
    "hookloop.callbacks": {"Callback", "LambdaCallback", "Order"},
    "hookloop.loggers": {"CSVLogger", "Logger", "TensorBoardLogger"},
    "hookloop.loggers.csv_logs": {"CSVLogger"},
    "hookloop.loggers.logger": {"DummyExperiment", "DummyLogger", "Logger", "merge_dicts", "rank_zero_experiment"},
    "hookloop.loggers.tensorboard": {"TensorBoardLogger"},
    "hookloop.profilers": {
        *("AdvancedProfiler", "PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler"),
    },
    "hookloop.profilers.profiler": {"Profiler"},
    "hookloop.profilers.base": {"PassThroughProfiler"},
    "hookloop.profilers.simple": {"SimpleProfiler"},
    "hookloop.profilers.advanced": {"AdvancedProfiler"},
    "hookloop.profilers.pytorch": {"PyTorchProfiler"},
    "hookloop.strategies": {"SingleDeviceStrategy", "Strategy"},
    "hookloop.accelerators": {"Accelerator", "CPUAccelerator", "CUDAAccelerator"},
    "hookloop.testing": {
        *("CallbackContract", "HookCall", "HookRecorder", "Ranks", "ReplicaStrategy", "Report", "Result"),
        *("TinyDataModule", "TinyModule"),
        *("calls_between", "calls_of", "calls_per_step", "check_callback", "run_on_ranks"),
    },
    "hookloop.errors": {
        *("CallbackContractError", "CallbackFactoryError", "CheckpointError", "HookError", "HookloopError"),
        *("MisconfigurationError", "MisconfigurationException"),
    },
}
"""Modules that users import from, and what they find there."""


def test_the_package_tells_its_version_without_loading_torch() -> None:
    program = "import hookloop, sys; print(hookloop.__version__, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert told.split() == [version("hookloop"), "False"]


def test_the_package_offers_these_names_and_no_others() -> None:
    assert set(hookloop.__all__) == FACES["hookloop"]
    assert hookloop.__all__ == sorted(hookloop.__all__)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in FACES.items() for name in sorted(names)]
)
def test_a_name_is_where_users_look_for_it(module: str, name: str) -> None:
    face = importlib.import_module(module)
    assert hasattr(face, name)
    assert name in dir(face)
    assert name in getattr(face, "__all__", [name])
    assert inspect.getdoc(getattr(face, name))


@pytest.mark.parametrize("module", sorted(FACES))
def test_everything_that_a_face_lists_is_there(module: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"from {module} import *", namespace)
    listed = getattr(importlib.import_module(module), "__all__", FACES[module])
    assert set(listed) <= set(namespace)


def test_after_import_hookloop_every_face_is_an_attribute() -> None:
    asked = "; ".join(f"print({module}.__name__)" for module in FACES)
    done = subprocess.run([sys.executable, "-c", f"import hookloop; {asked}"], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == list(FACES)


def test_the_package_is_marked_as_typed() -> None:
    assert files("hookloop").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("HookloopError", (Exception,)),
        ("MisconfigurationError", (errors.HookloopError, ValueError)),
        ("MisconfigurationTypeError", (errors.MisconfigurationError, TypeError)),
        ("HookError", (errors.MisconfigurationError,)),
        ("CallbackFactoryError", (errors.MisconfigurationError,)),
        ("CheckpointError", (errors.HookloopError,)),
        ("CallbackContractError", (errors.HookloopError, AssertionError)),
        ("AnomalyError", (errors.HookloopError, RuntimeError)),
    ],
)
def test_errors_can_be_caught_by_what_they_are(name: str, bases: tuple[type, ...]) -> None:
    error = getattr(errors, name)
    assert all(issubclass(error, base) for base in bases)


def test_every_error_is_a_hookloop_error_and_lightnings_name_is_an_alias() -> None:
    defined = [value for value in vars(errors).values() if isinstance(value, type)]
    for end in (errors.SIGTERMException, errors.PausedException):  # no errors, but the end of the process or the run
        defined.remove(end)
        assert issubclass(end, SystemExit)
    assert all(issubclass(error, errors.HookloopError) for error in defined)
    assert errors.MisconfigurationException is errors.MisconfigurationError


# Every module, class and function of the core


def modules() -> Iterator[ModuleType]:
    yield hookloop
    for found in pkgutil.walk_packages(hookloop.__path__, "hookloop."):
        yield importlib.import_module(found.name)


def public(owner: ModuleType | type) -> Iterator[tuple[str, Any]]:
    """What is defined there (and not imported or generated) under a name without an underscore, and `__init__`."""
    home = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
    for name, member in vars(owner).items():
        if name.startswith("_") and name != "__init__":
            continue
        function = getter_of(member)
        of_module = isinstance(owner, ModuleType) and inspect.isclass(member) and member.__module__ == home
        # Methods that a dataclass generates have no file.
        written = function is not None and function.__module__ == home and function.__code__.co_filename != "<string>"
        if of_module or written:
            yield name, member


def getter_of(member: Any) -> FunctionType | None:
    """The function behind a method, a property or a static method."""
    if isinstance(member, property):
        member = member.fget
    member = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else member
    return member if isinstance(member, FunctionType) else None


def api() -> Iterator[tuple[str, Any, type | None]]:
    """Name, object and class of everything public."""
    for module in modules():
        for name, member in public(module):
            yield f"{module.__name__}.{name}", member, None
            if inspect.isclass(member):
                for inner, method in public(member):
                    yield f"{module.__name__}.{name}.{inner}", method, member


API = list(api())
FUNCTIONS = [(name, function) for name, member, _ in API if (function := getter_of(member)) is not None]
CLASSES = [(name, member) for name, member, _ in API if inspect.isclass(member)]


def test_the_generated_tests_see_the_whole_core() -> None:
    names = {name for name, _, _ in API}
    assert len(names) == len(API) > 400
    assert {
        *("hookloop.trainer.trainer.Trainer", "hookloop.trainer.trainer.Trainer.fit"),
        "hookloop.module.module.LightningModule.log",
        *("hookloop.loops.train.train", "hookloop.precision.Precision.scale", "hookloop.batches.map_batch"),
        *("hookloop.trainer.attributes.TrainerAttributes.current_epoch", "hookloop.loggers.csv.CSVLogger.__init__"),
    } <= names


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is_about(module: ModuleType) -> None:
    assert (module.__doc__ or "").strip().splitlines()[0].endswith((".", ":"))


def documentation(name: str, member: Any, owner: type | None) -> str | None:
    """The docstring of the member itself, or of what it overrides or implements."""
    last = name.rpartition(".")[2]
    if last == "__init__":
        return "The class describes it."
    if owner is None:
        return inspect.getdoc(member)
    return inspect.getdoc(getattr(owner, last)) or inspect.getdoc(getattr(protocol_of(owner), last, None))


def protocol_of(owner: type) -> type | None:
    """The protocol that a class implements without inheriting from it: the trainer's view, or one of its own module."""
    if owner is TrainerAttributes:
        return TrainerView
    for candidate in vars(sys.modules[owner.__module__]).values():
        if not isinstance(candidate, type) or not getattr(candidate, "_is_protocol", False):
            continue
        members = [member for member in vars(candidate) if not member.startswith("_")]
        if members and all(hasattr(owner, member) for member in members):
            return candidate
    return None


@pytest.mark.parametrize(("name", "member", "owner"), [pytest.param(*entry, id=entry[0]) for entry in API])
def test_everything_public_is_documented(name: str, member: Any, owner: type | None) -> None:
    text = documentation(name, member, owner)
    assert text
    assert text == text.strip()
    # A sentence, or several.
    assert text.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(("name", "function"), [pytest.param(*entry, id=entry[0]) for entry in FUNCTIONS])
def test_everything_public_has_types(name: str, function: FunctionType) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    assert [parameter.name for parameter in parameters if parameter.annotation is parameter.empty] == []
    assert "return" in function.__annotations__


# Sections of docstrings


def section(text: str, title: str) -> dict[str, str] | None:
    """The entries of a section, by name; None if there is no such section."""
    found = re.search(rf"^{title}:\n((?: .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    if found is None:
        return None
    entries: dict[str, str] = {}
    name = ""
    for line in found[1].rstrip().splitlines():
        if line.startswith(" " * 8) or not line.strip():
            entries[name] += f" {line.strip()}"
        else:
            name, colon, rest = line.strip().partition(":")
            # A line that was broken without its indentation would begin an entry with a name of several words.
            assert re.fullmatch(r"\*{0,2}[\w.]+", name), line
            assert colon == ":", line
            assert name not in entries, line
            entries[name] = rest.strip()
    return entries


def parameters_of(callable_: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(callable_).parameters.values()
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(each.kind, "") + each.name for each in parameters if each.name not in ("self", "cls")]


DESCRIBED = [(name, member, inspect.getdoc(member) or "") for name, member in [*FUNCTIONS, *CLASSES]]
WITH_ARGS = [entry for entry in DESCRIBED if "\nArgs:\n" in entry[2]]


def test_the_generated_tests_see_the_sections() -> None:
    assert len(WITH_ARGS) > 50
    assert section("A.\n\nArgs:\n    one: first\n        goes on.\n    **more: rest.\n", "Args") == {
        "one": "first goes on.",
        "**more": "rest.",
    }
    with pytest.raises(AssertionError, match="goes on"):
        section("A.\n\nArgs:\n    one: first\n    goes on.\n", "Args")


@pytest.mark.parametrize(("name", "member", "text"), [pytest.param(*entry, id=entry[0]) for entry in WITH_ARGS])
def test_an_args_section_describes_every_argument_in_its_order(name: str, member: Any, text: str) -> None:
    entries = section(text, "Args")
    assert entries is not None
    assert list(entries) == parameters_of(member)
    assert [entry for entry, words in entries.items() if len(words) < 3 or not words.endswith((".", ")"))] == []


@pytest.mark.parametrize(
    ("name", "member", "text"),
    [pytest.param(*entry, id=entry[0]) for entry in DESCRIBED if "\nRaises:\n" in entry[2]],
)
def test_a_raises_section_names_exceptions(name: str, member: Any, text: str) -> None:
    entries = section(text, "Raises")
    assert entries
    known = vars(builtins) | vars(errors)
    assert [entry for entry in entries if not issubclass(known.get(entry, int), BaseException)] == []


@pytest.mark.parametrize(
    ("name", "member", "text"),
    [pytest.param(*entry, id=entry[0]) for entry in DESCRIBED if "\nAttributes:\n" in entry[2]],
)
def test_an_attributes_section_can_be_read(name: str, member: Any, text: str) -> None:
    entries = section(text, "Attributes")
    assert entries
    if is_dataclass(member):
        # Whatever it describes is a field, or is asked for by its name.
        assert [entry for entry in entries if not hasattr(member, entry) and entry not in member.__annotations__] == []
