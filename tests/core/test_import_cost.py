"""What hookloop's names, and a first run, load beyond torch: counted in modules, which are the same in every run."""

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
    "yaml",
]

# What a plain loop loads too that saves its weights: making an optimizer, torch imports its compiler, and that sympy.
PLAIN_LOOP = """
import io
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

batches = DataLoader(TensorDataset(torch.randn(8, 4), torch.randint(0, 2, (8,))), batch_size=4)
layer = nn.Linear(4, 2)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for inputs, targets in batches:
    optimizer.zero_grad()
    nn.functional.cross_entropy(layer(inputs), targets).backward()
    nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()
torch.save(layer.state_dict(), io.BytesIO())
"""

RUNS = """
from hookloop import Callback, LightningModule, Trainer


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def predict_step(self, batch, batch_idx):
        return self.layer(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = Trainer(
    default_root_dir=sys.argv[1],
    accelerator="cpu",
    max_epochs=1,
    registered_callbacks=False,
    callbacks=[Callback()],
    gradient_clip_val=1.0,
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
)
trainer.fit(Module(), batches, batches)
trainer.validate(Module(), batches, verbose=False)
trainer.predict(Module(), batches)
trainer.save_checkpoint(sys.argv[1] + "/last.ckpt")
"""


def modules_of(program: str, *arguments: str) -> frozenset[str]:
    """What a fresh process has loaded after a program. It may print: what it has loaded comes last."""
    lines = f'import sys\n{program}\nprint("loaded:", *sys.modules)'
    command = [sys.executable, "-W", "ignore", "-c", lines, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.rpartition("loaded:")[2].split())


@pytest.fixture(scope="module")
def added() -> frozenset[str]:
    """The modules that hookloop adds to torch's."""
    return modules_of("import torch\nfrom hookloop import *") - modules_of("import torch")


def test_hookloop_itself_is_one_module_until_a_name_of_it_is_used() -> None:
    added = modules_of("import hookloop") - modules_of("")

    assert {name for name in added if name.startswith(("hookloop", "torch"))} == {"hookloop"}


def test_hookloop_adds_at_most_80_modules_to_torch(added: frozenset[str]) -> None:
    assert "hookloop.trainer" in added
    assert len(added) <= 80, sorted(added)


@pytest.mark.parametrize("name", LOADED_WHEN_USED)
def test_what_is_large_is_not_loaded_before_it_is_used(name: str, added: frozenset[str]) -> None:
    assert not {module for module in added if module == name or module.startswith(f"{name}.")}


def test_hookloop_adds_nothing_but_itself_and_the_standard_library(added: frozenset[str]) -> None:
    foreign = {name for name in added if name.partition(".")[0] not in {"hookloop", *sys.stdlib_module_names}}

    assert foreign == set()


@pytest.fixture(scope="module")
def added_by_runs(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The modules that a fit with validation and the default logger adds to a plain loop's; then the others."""
    folder = tmp_path_factory.mktemp("runs")
    loaded = modules_of(PLAIN_LOOP + RUNS, str(folder))
    assert (folder / "last.ckpt").exists()
    return loaded - modules_of(PLAIN_LOOP)


@pytest.mark.parametrize("name", LOADED_WHEN_USED)
def test_a_fit_loads_nothing_large_that_a_plain_loop_does_not(name: str, added_by_runs: frozenset[str]) -> None:
    assert "hookloop.loops.train" in added_by_runs
    assert not {module for module in added_by_runs if module == name or module.startswith(f"{name}.")}


def test_a_fit_loads_what_it_needs_of_hookloop_and_nothing_of_others_but_torch_and_the_standard_library(
    added_by_runs: frozenset[str],
) -> None:
    tops = {name.partition(".")[0] for name in added_by_runs}
    assert tops - {"hookloop", "torch", *sys.stdlib_module_names} == set()
    assert len(added_by_runs) <= 120, sorted(added_by_runs)
