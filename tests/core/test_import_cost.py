"""What `import hookloop` loads beyond `import torch`: counted in modules, which are the same in every run."""

import subprocess
import sys

import pytest

# Large, slow to import (torch._dynamo and torch.distributed.checkpoint bring sympy with them), or of one callback.
LOADED_WHEN_USED = [
    "packaging",
    "psutil",
    "rich",
    "sympy",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.checkpoint",
    "torch.utils.tensorboard",
    "torchmetrics",
    "tqdm",
]


def modules_after(*imports: str) -> frozenset[str]:
    """What a fresh process has loaded after these imports."""
    lines = [*(f"import {name}" for name in imports), "import sys", 'print(*sorted(sys.modules), sep="\\n")']
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


@pytest.fixture(scope="module")
def added() -> frozenset[str]:
    """The modules that hookloop adds to torch's."""
    return modules_after("torch", "hookloop") - modules_after("torch")


def test_hookloop_adds_at_most_80_modules_to_torch(added: frozenset[str]) -> None:
    assert "hookloop.trainer" in added
    assert len(added) <= 80, sorted(added)


@pytest.mark.parametrize("name", LOADED_WHEN_USED)
def test_what_is_large_is_not_loaded_before_it_is_used(name: str, added: frozenset[str]) -> None:
    assert not {module for module in added if module == name or module.startswith(f"{name}.")}


def test_hookloop_adds_nothing_but_itself_and_the_standard_library(added: frozenset[str]) -> None:
    foreign = {name for name in added if name.partition(".")[0] not in {"hookloop", *sys.stdlib_module_names}}

    assert foreign == set()
