"""`hookloop checkpoint show`, and the pins in a file: what is in files, read without anybody's code."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Trainer

from .commanding import METER, Shell, Trained, saved_in_the_middle
from .fitting import loader
from .installing import Site, installed_for_one_test


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def shown(shell: Shell, path: Path) -> dict[str, Any]:
    said = shell("checkpoint", "show", path, "--json")
    assert (said.code, said.err) == (0, "")
    found: dict[str, Any] = json.loads(said.out)
    return found


# show


def test_a_checkpoint_is_shown_with_everything_that_it_holds(site: Site, shell: Shell, tmp_path: Path) -> None:
    site.core("0.1.4")
    site.install("acme-meters", "2.5", classes={"Meter": "meters:Meter"}, modules={"meters": METER})
    meter = __import__("meters").Meter()
    path = saved_in_the_middle(tmp_path / "seven.ckpt", meter)

    said = shell("checkpoint", "show", path)

    assert (said.code, said.err) == (0, "")
    with zipfile.ZipFile(path) as archive:
        records = len(archive.namelist())
    size = path.stat().st_size
    assert said.out.splitlines() == [
        str(path),
        "  written by   hookloop 0.1.4, format 1",
        f"  file         {size / 1000:.1f} kB in {records} records",
        "  epoch        1, 2 batches of it done",
        "  global step  7",
        "  training     its state is in the file",
        # 3*4 + 4 + 4*1 + 1 numbers of four bytes
        "  weights      4 tensors, 84 B: 21 float32",
        "  callbacks    Meter, acme-meters 2.5",
        # Two moments of the same size, and a step of four bytes for each of four parameters.
        "  optimizers   Adam, lr 0.025, 4 parameter tensors; 184 B of state",
        "  schedulers   StepLR, step 1, last lr 0.025",
        "  loaders      the position of 1 training loader",
        "  settings     width = 4",
        "               name = tiny",
        "               rates = [0.1, 0.2]",
        "  last logged  batch_index = 1",
        f"  versions     acme-meters 2.5, hookloop 0.1.4, torch {torch.__version__}",
        "  also in it   asked_to_stop, limits, logged, precision, random_state",
    ]


def test_the_same_for_programs(site: Site, shell: Shell, tmp_path: Path) -> None:
    site.core("0.1.4")
    path = saved_in_the_middle(tmp_path / "seven.ckpt")

    found = shown(shell, path)

    assert {
        name: found[name] for name in ("path", "written_by", "version", "format", "epoch", "global_step", "batch")
    } == {
        "path": str(path),
        "written_by": "hookloop",
        "version": "0.1.4",
        "format": 1,
        "epoch": 1,
        "global_step": 7,
        "batch": 2,
    }
    assert found["resumable"] is True
    assert found["weights"]["dtypes"] == {"float32": 21}
    assert found["weights"]["entries"] == [
        {"name": "net.0.weight", "shape": [4, 3], "dtype": "float32"},
        {"name": "net.0.bias", "shape": [4], "dtype": "float32"},
        {"name": "net.2.weight", "shape": [1, 4], "dtype": "float32"},
        {"name": "net.2.bias", "shape": [1], "dtype": "float32"},
    ]
    [optimizer] = found["optimizers"]
    [group] = optimizer["groups"]
    assert (optimizer["class"], optimizer["state_tensors"], group["parameters"]) == ("Adam", 12, 4)
    assert (group["lr"], group["betas"]) == (0.025, [0.9, 0.999])
    assert found["hyper_parameters"] == {"width": 4, "name": "tiny", "rates": [0.1, 0.2]}
    assert found["metrics"] == {"batch_index": 1.0}


def test_weights_are_listed_by_name_if_asked_for(shell: Shell, tmp_path: Path) -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 3), "norm": nn.BatchNorm1d(3)}).bfloat16()
    path = tmp_path / "weights.ckpt"
    torch.save({"state_dict": module.state_dict(), "hookloop_version": "0.1.0"}, path)

    lines = shell("checkpoint", "show", path, "--weights").out.splitlines()

    assert lines[lines.index("weights") + 1 :] == [
        "  a.weight                  3x2 bfloat16",
        "  a.bias                    3 bfloat16",
        "  norm.weight               3 bfloat16",
        "  norm.bias                 3 bfloat16",
        "  norm.running_mean         3 bfloat16",
        "  norm.running_var          3 bfloat16",
        "  norm.num_batches_tracked  one int64",
    ]


def test_weights_that_share_their_numbers_are_counted_once_in_bytes(shell: Shell, tmp_path: Path) -> None:
    whole = torch.zeros(100)
    torch.save({"state_dict": {"whole": whole, "part": whole[10:20], "same": whole}}, tmp_path / "tied.ckpt")

    weights = shown(shell, tmp_path / "tied.ckpt")["weights"]

    assert (weights["tensors"], weights["values"], weights["bytes"]) == (3, 210, 400)


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float16, torch.float64, torch.int8, torch.uint16, torch.bool, torch.complex64],
    ids=str,
)
def test_numbers_of_every_kind_are_told_with_their_bytes(dtype: torch.dtype, shell: Shell, tmp_path: Path) -> None:
    tensor = torch.zeros(5, 2).to(dtype)
    torch.save({"state_dict": {"one": tensor}}, tmp_path / "one.ckpt")

    weights = shown(shell, tmp_path / "one.ckpt")["weights"]

    name = str(dtype).removeprefix("torch.")
    assert weights["entries"] == [{"name": "one", "shape": [5, 2], "dtype": name}]
    assert weights["bytes"] == tensor.numel() * tensor.element_size()


def test_a_file_of_weights_alone_says_that_no_fit_can_go_on_from_it(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    trainer = Trainer(max_epochs=1, registered_callbacks=False, default_root_dir=tmp_path, logger=False)
    trainer.fit(Trained(), loader())
    trainer.save_checkpoint(path, weights_only=True)

    assert "  training     no state of it: a fit cannot go on\n" in shell("checkpoint", "show", path).out
    assert shown(shell, path)["resumable"] is False


def test_a_state_dict_that_nobody_packed_is_shown_too(shell: Shell, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "plain.pt")

    found = shown(shell, tmp_path / "plain.pt")

    assert (found["written_by"], found["weights"]["values"]) == (None, 9)


def test_a_file_of_lightnings_is_shown_although_its_classes_are_not_here(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Lightning 2.6 writes it, with its own class for settings.
    home = ModuleType("lightning.fabric.utilities.data")
    settings_class = type("AttributeDict", (dict,), {"__module__": home.__name__})
    vars(home)["AttributeDict"] = settings_class
    layer = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    content = {
        "epoch": 1,
        "global_step": 8,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": layer.state_dict(),
        "loops": {
            "fit_loop": {"state_dict": {}, "epoch_loop.batch_progress": {"current": {"ready": 4, "completed": 3}}}
        },
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "/x"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": settings_class(width=4, path=Path("/x")),
    }
    path = tmp_path / "theirs.ckpt"
    with monkeypatch.context() as patch:
        for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setitem(sys.modules, home.__name__, home)
        torch.save(content, path)

    said = shell("checkpoint", "show", path)

    assert said.code == 0
    assert said.out.splitlines()[1:] == [
        "  written by   Lightning 2.6.6",
        f"  file         {path.stat().st_size / 1000:.1f} kB in {shown(shell, path)['records']} records",
        "  epoch        1, 3 batches of it done",
        "  global step  8",
        "  training     its state is in the file",
        "  weights      2 tensors, 36 B: 9 float32",
        "  callbacks    ModelCheckpoint",
        "  optimizers   unnamed, lr 0.1, 2 parameter tensors; 0 B of state",
        "  settings     width = 4",
        "               path = pathlib.PosixPath(/, x)",
    ]
    assert "lightning.fabric.utilities.data" not in sys.modules


class Colour(Enum):
    RED = 1


class Elsewhere:
    """Its module is not there when the file is shown."""

    def __init__(self) -> None:
        self.secret = 3


def test_what_is_no_plain_value_is_described_and_imported_by_nobody(shell: Shell, tmp_path: Path) -> None:
    settings = {
        "path": Path("/data"),
        "colour": Colour.RED,
        "activation": nn.ReLU,
        "loss": nn.functional.mse_loss,
        "object": Elsewhere(),
        "set": {1},
        "bytes": b"ab",
        "complex": 1j,
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cuda", 1),
        "infinite": float("inf"),
        "long": "x" * 1000,
        "deep": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]],
        "many": list(range(1000)),
        3: "a number for a name",
    }
    path = tmp_path / "odd.ckpt"
    torch.save({"state_dict": {}, "hookloop_version": "0.1.0", "hyper_parameters": settings}, path)

    found = shown(shell, path)["hyper_parameters"]

    here = __name__
    assert found["path"] == "pathlib.PosixPath(/, data)"
    assert found["colour"] == f"{here}.Colour(1)"
    assert found["activation"] == "torch.nn.modules.activation.ReLU"
    assert found["loss"] == "torch.nn.functional.mse_loss"
    assert found["object"] == f"{here}.Elsewhere({{'secret': 3}})"
    assert (found["set"], found["bytes"], found["complex"]) == ([1], "b'ab'", "1j")
    assert (found["size"], found["dtype"], found["device"]) == ([2, 3], "float16", "cuda:1")
    assert found["infinite"] == "inf"
    assert found["long"] == f"{'x' * 200}..."
    assert json.dumps(found["deep"]).count("[") == 12
    assert (found["many"][:3], found["many"][-1]) == ([0, 1, 2], "... 950 more")
    assert found["3"] == "a number for a name"


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_the_code_in_a_malicious_file_does_not_run(shell: Shell, tmp_path: Path) -> None:
    path, proof = tmp_path / "bad.ckpt", tmp_path / "ran"
    torch.save({"state_dict": {}, "hookloop_version": "0.1.0", "hyper_parameters": {"x": Bomb(proof)}}, path)

    found = shown(shell, path)
    verified = shell("checkpoint", "verify", path)
    locked = shell("lock", "--checkpoint", path)

    assert not proof.exists()
    assert found["hyper_parameters"] == {"x": f"io.open({proof}, w)"}
    assert (verified.code, locked.code) == (0, 0)
    # What torch itself does with such a file, so that the test can fail.
    torch.load(path, weights_only=False)
    assert proof.exists()


def test_no_weights_are_read(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    torch.save({"state_dict": {"big": torch.zeros(1_000_000), "small": torch.zeros(2)}}, path)
    # Damaged where the weights are: whoever reads them is told by their checksum.
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert shown(shell, path)["weights"]["values"] == 1_000_002
    assert shell("checkpoint", "verify", path).code == 1


def test_a_file_of_the_format_before_torch_1_6_is_shown_and_has_no_checksums(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "former.ckpt"
    content = {"state_dict": nn.Linear(2, 3).state_dict(), "pytorch-lightning_version": "1.0.0", "epoch": 4}
    torch.save(content, path, _use_new_zipfile_serialization=False)

    found = shown(shell, path)
    said = shell("checkpoint", "verify", path)

    assert (found["written_by"], found["version"], found["epoch"], found["records"]) == ("Lightning", "1.0.0", 4, None)
    assert found["weights"]["values"] == 9
    assert said.code == 0
    assert "torch wrote no checksums before version 1.6, so its weights are not checked" in said.out


def test_show_loads_no_torch(tmp_path: Path) -> None:
    path = saved_in_the_middle(tmp_path / "seven.ckpt")
    program = (
        "import sys\nfrom hookloop.cli.main import main\n"
        f"code = main(['checkpoint', 'show', {str(path)!r}])\n"
        "sys.exit(code or 9 * ('torch' in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


# lock --checkpoint


def test_the_versions_in_a_checkpoint_are_pinned_those_of_callbacks_without_a_state_too(
    site: Site, shell: Shell, tmp_path: Path
) -> None:
    site.core("0.1.4")
    site.install("acme-meters", "2.5", classes={"Meter": "meters:Meter"}, modules={"meters": METER})
    meters = __import__("meters")
    path = saved_in_the_middle(tmp_path / "seven.ckpt", meters.Silent())
    # What is installed now is something else.
    site.core("0.9.0")

    said = shell("lock", "--checkpoint", path)

    assert said.code == 0
    assert said.out.splitlines()[0] == f"# hookloop lock, recorded in {path}"
    assert [line for line in said.out.splitlines() if not line.startswith("#")] == [
        "acme-meters==2.5",
        "hookloop==0.1.4",
        f"torch=={torch.__version__}",
    ]


def test_a_file_that_records_no_torch_says_so(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "older.ckpt"
    classes = {"Meter": {"class": "Meter", "distribution": "acme", "version": "1.2"}, "mine": {"class": "Mine"}}
    torch.save({"state_dict": {}, "hookloop_version": "0.1.0", "callback_classes": classes}, path)

    assert shell("lock", "--checkpoint", path).out.splitlines()[1:] == [
        "# torch: its version is not in the file.",
        "acme==1.2",
        "hookloop==0.1.0",
    ]


def test_a_file_of_lightnings_has_no_versions_to_pin(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "theirs.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, path)

    said = shell("lock", "--checkpoint", path)

    assert (said.code, said.out) == (1, "")
    assert said.err == (
        f"hookloop: {path} records no versions: Lightning wrote it, and hookloop does not know with what. Give a "
        "checkpoint that hookloop wrote.\n"
    )
