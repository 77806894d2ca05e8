"""Whatever Lightning's users import is at the same place after the root, or an error says where it is, or why not."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import hookloop

# As a user writes them: type checkers have to see the names too.
from hookloop.accelerators import CPUAccelerator, CUDAAccelerator
from hookloop.core import LightningOptimizer
from hookloop.core.hooks import ModelHooks
from hookloop.plugins import CheckpointIO, MixedPrecision
from hookloop.plugins.precision.amp import MixedPrecision as MixedPrecisionOfAmp
from hookloop.trainer.states import RunningStage, TrainerFn
from hookloop.utilities import grad_norm, rank_zero_only
from hookloop.utilities.exceptions import MisconfigurationException
from hookloop.utilities.seed import isolate_rng
from hookloop.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

from .installing import Site, installed_for_one_test
from .lightning_names import ABSENT, BY_PACKAGES, HERE, NO_SUCH_MODULE

FOLDERS = ("callbacks", "core", "plugins", "tuner", "utilities")
"""Where there is nothing but faces."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A world in which no package is installed but what a test installs."""
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def found(module: str, name: str) -> Any:
    """What `from hookloop.module import name` gives."""
    namespace: dict[str, Any] = {}
    exec(f"from {here(module)} import {name}", namespace)
    return namespace[name]


def here(module: str) -> str:
    return f"hookloop.{module}" if module else "hookloop"


# What is there


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in HERE.items() for name in names.split()]
)
def test_a_name_is_at_lightnings_place(module: str, name: str) -> None:
    value = found(module, name)
    assert value is not None
    assert name in dir(importlib.import_module(here(module)))


PLACES: dict[str, list[str]] = {}
for _module, _names in HERE.items():
    for _name in _names.split():
        PLACES.setdefault(_name, []).append(_module)


@pytest.mark.parametrize("name", [name for name, modules in PLACES.items() if len(modules) > 1])
def test_every_place_of_a_name_has_the_same_object(name: str) -> None:
    assert len({id(found(module, name)) for module in PLACES[name]}) == 1


def test_a_typed_module_is_written_with_these_names_as_with_lightnings() -> None:
    class Line(hookloop.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
            return self.layer(batch[0]).square().mean()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> OptimizerLRScheduler:
            return {"optimizer": torch.optim.SGD(self.parameters(), lr=0.1)}

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            self.norms = grad_norm(self.layer, norm_type=2)
            self.unwrapped = isinstance(self.optimizers(), LightningOptimizer)

        @rank_zero_only
        def tell(self) -> str:
            return f"{TrainerFn.FITTING} {RunningStage.TRAINING}"

    module = Line()
    plugins: list[MixedPrecision | CheckpointIO] = [MixedPrecisionOfAmp("bf16-mixed", "cpu")]
    trainer = hookloop.Trainer(
        accelerator=CPUAccelerator(), plugins=plugins, fast_dev_run=True, registered_callbacks=False
    )
    with isolate_rng():
        trainer.fit(module, DataLoader(TensorDataset(torch.ones(2, 1))))
    assert set(module.norms) == {"grad_2.0_norm/weight", "grad_2.0_norm/bias", "grad_2.0_norm_total"}
    assert module.unwrapped
    assert module.tell() == "fit train"
    assert isinstance(module, ModelHooks)
    with pytest.raises(MisconfigurationException, match="plugins holds the class CUDAAccelerator"):
        hookloop.Trainer(plugins=CUDAAccelerator)  # type: ignore[arg-type]


# What packages have


OF_PACKAGES = [
    pytest.param(module, package, name, id=f"{module}-{name}")
    for module, packages in BY_PACKAGES.items()
    for package, names in packages.items()
    for name in names.split()
]


@pytest.mark.parametrize(("module", "package", "name"), OF_PACKAGES)
def test_a_name_of_a_package_that_is_not_installed_is_an_error_that_names_the_package(
    site: Site, module: str, package: str, name: str
) -> None:
    expected = (
        rf"^{name} is in hookloop-callbacks-{package}, which is not installed, or too old to have it\. Run "
        rf"`pip install --upgrade hookloop-callbacks-{package}` and start Python again\.$"
    )
    with pytest.raises(ImportError, match=expected) as caught:
        found(module, name)
    assert caught.value.name == here(module)


@pytest.mark.parametrize(("module", "package", "name"), OF_PACKAGES)
def test_a_name_of_a_package_is_the_packages_own_once_it_is_installed(
    site: Site, module: str, package: str, name: str
) -> None:
    source = f"import hookloop\nclass One(hookloop.Callback): pass\n{name} = One\n"
    entry = {name: f"acme:{name}"}
    site.install("acme", classes=entry, names=entry, modules={"acme": source})
    assert found(module, name) is importlib.import_module("acme").One


def test_a_name_that_is_no_callback_may_be_anything(site: Site) -> None:
    site.install("acme", names={"Tuner": "acme:Tuner"}, modules={"acme": "class Tuner: pass\n"})
    assert found("tuner", "Tuner") is importlib.import_module("acme").Tuner


def test_what_is_no_callback_is_not_among_the_callbacks(site: Site) -> None:
    site.install("acme", names={"Tuner": "acme:Tuner"}, modules={"acme": "class Tuner: pass\n"})
    assert dir(hookloop.callbacks) == ["Callback", "LambdaCallback", "Order"]
    with pytest.raises(AttributeError, match=r"hookloop\.callbacks has no Tuner\."):
        _ = hookloop.callbacks.Tuner


def test_a_name_that_two_packages_claim_is_an_error_with_both(site: Site) -> None:
    for package in ("acme", "bravo"):
        site.install(package, names={"Tuner": f"{package}:Tuner"}, modules={package: "Tuner = 1\n"})
    expected = r"^hookloop\.tuner\.Tuner is claimed by 2 entry points: acme 1\.0 .*; bravo 1\.0 .*\. Import it from"
    with pytest.raises(ImportError, match=expected):
        found("tuner", "Tuner")


def test_a_name_of_a_broken_package_is_an_error_with_the_cause(site: Site) -> None:
    site.install("acme", names={"Tuner": "acme:Tuner"}, modules={"acme": "1 / 0\n"})
    expected = r"^hookloop\.tuner\.Tuner cannot be imported from acme 1\.0 .* ZeroDivisionError: division by zero$"
    with pytest.raises(ImportError, match=expected):
        found("tuner", "Tuner")


# What is not there


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        pytest.param(module, name, reason, id=f"{module}-{name}")
        for module, reasons in ABSENT.items()
        for name, reason in reasons.items()
    ],
)
def test_a_name_that_hookloop_does_not_have_is_an_error_that_says_why(module: str, name: str, reason: str) -> None:
    with pytest.raises(ImportError) as caught:
        found(module, name)
    message = str(caught.value)
    assert message.startswith(f"{here(module)}: ")
    assert reason in message
    assert message.endswith(".")
    assert "{" not in message
    assert caught.value.name == here(module)


@pytest.mark.parametrize("module", NO_SUCH_MODULE)
def test_a_module_that_hookloop_does_not_have_is_named_by_pythons_own_error(module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"No module named 'hookloop.{module}'"):
        importlib.import_module(f"hookloop.{module}")


FACES = sorted({here(module) for module in (*HERE, *BY_PACKAGES, *ABSENT)} - {"hookloop.callbacks"})


@pytest.mark.parametrize("face", FACES)
def test_a_name_that_nobody_knows_is_an_attribute_error(face: str) -> None:
    module = importlib.import_module(face)
    for unknown in ("no_such_name", "__path_of__"):
        with pytest.raises(AttributeError, match=unknown):
            getattr(module, unknown)


# What faces are


def face_files() -> list[Path]:
    root = Path(hookloop.__file__).parent
    return [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]


@pytest.mark.parametrize("file", face_files(), ids=lambda file: "/".join(file.parts[-3:]))
def test_a_face_holds_no_logic(file: Path) -> None:
    # `if not TYPE_CHECKING` hides __getattr__ from type checkers, and `if TYPE_CHECKING` shows them what it gives.
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        body = node.body if isinstance(node, ast.If) else [node]
        assert not isinstance(node, ast.If) or "TYPE_CHECKING" in ast.unparse(node.test)
        for part in body:
            if isinstance(part, ast.FunctionDef):
                assert part.name in ("__getattr__", "__dir__")
                assert len(part.body) <= 3
            elif isinstance(part, ast.ClassDef):
                assert [ast.unparse(base) for base in part.bases] == ["TypedDict"]
            else:
                assert isinstance(part, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Expr)


def test_faces_are_loaded_by_those_who_use_them() -> None:
    program = (
        "import sys, hookloop\n"
        f"folders = {FOLDERS}\n"
        "loaded = lambda: [name for name in folders if f'hookloop.{name}' in sys.modules]\n"
        "print(loaded())\n"
        "print([getattr(hookloop, name).__name__ for name in folders])\n"
        "print(loaded() == list(folders))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", str([f"hookloop.{name}" for name in FOLDERS]), "True"]
