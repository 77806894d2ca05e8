"""Modules that went through torch.compile: in every entry point, in checkpoints, in pickles.

Expected values come from the same module without compiling, which other tests compare with plain loops, and from plain
loops over the compiled module.
"""

import copy
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.module.compiled import from_compiled, to_uncompiled

from .fitting import Batch, Regression, Rows, loader, loss_of, sgd, trainer_in

# What a compiler does in another order may round in another way: of float32, a few units in the seventh digit.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
# "eager" runs the graph as it was captured. "aot_eager" differentiates it first. Neither needs a C++ compiler, and
# neither changes an operation.
BACKENDS = ["eager", "aot_eager"]


@pytest.fixture(autouse=True)
def forgets_compiled_code() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Graphs:
    """A backend that runs what was captured, and counts it: how often it was compiled, and how often it ran."""

    def __init__(self) -> None:
        self.compiled = 0
        self.calls = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.calls += 1
            return graph(*args)

        return run


def compiled(module: LightningModule, backend: Any = "eager", **arguments: Any) -> Any:
    return torch.compile(module, backend=backend, **arguments)


class Silent(Regression):
    """Logs nothing and writes down nothing, so that the whole step is one graph."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return loss_of(self.net, batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", loss_of(self.net, batch))


def fitted(module: Any, tmp_path: Path, **arguments: Any) -> Any:
    trainer = trainer_in(tmp_path, **arguments)
    trainer.fit(module, loader(), loader(2))
    return trainer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [Regression, Silent])
def test_a_compiled_fit_gives_the_weights_of_one_that_is_not(
    kind: type[Regression], backend: str, tmp_path: Path
) -> None:
    plain, module = kind(), kind()
    expected = fitted(plain, tmp_path)
    trainer = fitted(compiled(module, backend), tmp_path)
    assert (trainer.current_epoch, trainer.global_step) == (2, 10)
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)
    assert list(trainer.callback_metrics) == list(expected.callback_metrics)
    for name, value in expected.callback_metrics.items():
        assert_close(trainer.callback_metrics[name], value)


def test_a_compiled_fit_gives_the_weights_of_a_plain_loop(tmp_path: Path) -> None:
    module, net = Silent(), Regression().net
    optimizer = sgd(net.parameters())
    for _ in range(2):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
    fitted(compiled(module), tmp_path)
    for name, weight in net.state_dict().items():
        assert_close(module.net.state_dict()[name], weight)


def test_the_steps_run_compiled_and_are_compiled_once_for_all_batches_and_runs(tmp_path: Path) -> None:
    graphs, module = Graphs(), Silent()
    wrapped = compiled(module, graphs)
    fitted(wrapped, tmp_path, limit_val_batches=0)
    # Two epochs of five batches, one graph each.
    assert (graphs.compiled, graphs.calls) == (1, 10)
    fitted(wrapped, tmp_path, limit_val_batches=0)
    assert (graphs.compiled, graphs.calls) == (1, 20)


def test_every_entry_point_runs_its_step_compiled(tmp_path: Path) -> None:
    graphs, module = Graphs(), Regression()
    wrapped, trainer = compiled(module, graphs), trainer_in(tmp_path)
    for run in (trainer.validate, trainer.test, trainer.predict):
        before = graphs.calls
        result = run(wrapped, loader(3))
        assert graphs.calls - before >= 3
        plain = getattr(trainer_in(tmp_path), run.__name__)(Regression(), loader(3))
        assert_close(result, plain)


def test_the_module_of_the_run_is_the_module_and_not_its_wrapper(tmp_path: Path) -> None:
    module = Regression()
    wrapped = compiled(module)
    trainer = fitted(wrapped, tmp_path)
    assert trainer.lightning_module is trainer.model is module
    assert module.trainer is trainer
    # Without a module, the next entry point takes that one.
    assert trainer.validate(dataloaders=loader(1), verbose=False) != []
    # A fit of the wrapper is one of the module: a second one goes on.
    trainer.max_epochs = 3
    trainer.fit(wrapped, loader())
    assert trainer.current_epoch == 3


@pytest.mark.parametrize("logs", [True, False])
def test_logged_rows_are_those_of_a_run_that_is_not_compiled(logs: bool, tmp_path: Path) -> None:
    rows, expected = Rows(), Rows()
    kind = Regression if logs else Silent
    fitted(compiled(kind()), tmp_path, logger=rows, log_every_n_steps=1)
    fitted(kind(), tmp_path, logger=expected, log_every_n_steps=1)
    assert [step for step, _ in rows.rows] == [step for step, _ in expected.rows]
    for (_, row), (_, wanted) in zip(rows.rows, expected.rows, strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_precision_holds_in_compiled_steps(precision: str, tmp_path: Path) -> None:
    plain, module = Silent(), Silent()
    fitted(plain, tmp_path, precision=precision)
    fitted(compiled(module), tmp_path, precision=precision)
    for name, weight in plain.state_dict().items():
        assert module.state_dict()[name].dtype == weight.dtype
        assert_close(module.state_dict()[name], weight)


def test_accumulation_and_clipping_work_around_compiled_steps(tmp_path: Path) -> None:
    plain, module = Silent(), Silent()
    arguments: dict[str, Any] = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}
    fitted(plain, tmp_path, **arguments)
    fitted(compiled(module), tmp_path, **arguments)
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)


def test_a_step_that_takes_the_batch_alone_is_compiled_too(tmp_path: Path) -> None:
    class Short(Silent):
        def training_step(self, batch: Batch) -> Tensor:  # type: ignore[override]
            return loss_of(self.net, batch)

    graphs = Graphs()
    fitted(compiled(Short(), graphs), tmp_path, limit_val_batches=0)
    assert graphs.calls == 10


def test_manual_optimization_works_in_a_compiled_module(tmp_path: Path) -> None:
    class Manual(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            optimizer = self.optimizers()
            loss = loss_of(self.net, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    plain, module = Manual(), Manual()
    fitted(plain, tmp_path)
    trainer = fitted(compiled(module), tmp_path)
    assert trainer.global_step == 10
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's own compiler needs one for C++")
def test_torchs_own_compiler_gives_the_weights_of_a_plain_loop_up_to_rounding(tmp_path: Path) -> None:
    plain, module = Silent(), Silent()
    fitted(plain, tmp_path, limit_val_batches=0)
    fitted(torch.compile(module), tmp_path, limit_val_batches=0)
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)


# Checkpoints


def test_a_checkpoint_of_a_compiled_module_has_plain_names_and_resumes_either_way(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    fitted(compiled(Silent()), tmp_path, max_epochs=1).save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert list(saved) == ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]
    whole = Silent()
    fitted(whole, tmp_path)
    for again in (Silent(), compiled(Silent())):
        trainer = trainer_in(tmp_path)
        trainer.fit(again, loader(), ckpt_path=path)
        for name, weight in whole.state_dict().items():
            assert_close(trainer.lightning_module.state_dict()[name], weight)  # type: ignore[union-attr]


class CompilesAPart(Silent):
    """Compiles its network where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        if where == "init":
            self.compile_net()

    def configure_model(self) -> None:
        if self.where == "configure_model" and isinstance(self.net, nn.Sequential):
            self.compile_net()

    def compile_net(self) -> None:
        self.net = torch.compile(self.net, backend="eager")  # type: ignore[assignment]


@pytest.mark.parametrize("where", ["init", "configure_model"])
def test_a_checkpoint_of_a_module_with_a_compiled_part_has_plain_names_too(where: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    part = CompilesAPart(where)
    fitted(part, tmp_path, max_epochs=1).save_checkpoint(path)
    # In the program the part is what torch made of it; in the file it is not.
    assert "net._orig_mod.0.weight" in part.state_dict()
    assert next(iter(torch.load(path, weights_only=True)["state_dict"])) == "net.0.weight"
    whole = Silent()
    fitted(whole, tmp_path)
    for again in (Silent(), CompilesAPart(where), CompilesAPart("nowhere")):
        trainer = trainer_in(tmp_path)
        trainer.fit(again, loader(), ckpt_path=path)
        weights = {name.replace("_orig_mod.", ""): weight for name, weight in again.state_dict().items()}
        for name, weight in whole.state_dict().items():
            assert_close(weights[name], weight)


@pytest.mark.parametrize(("saved", "loaded"), [("init", "init"), ("nowhere", "configure_model"), ("init", "nowhere")])
def test_a_module_with_a_compiled_part_comes_back_from_a_checkpoint(saved: str, loaded: str, tmp_path: Path) -> None:
    path, module = tmp_path / "a.ckpt", CompilesAPart(saved)
    fitted(module, tmp_path, max_epochs=1).save_checkpoint(path)
    again = CompilesAPart.load_from_checkpoint(path, where=loaded)
    for ours, theirs in zip(again.state_dict().values(), module.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_parts_that_are_compiled_inside_compiled_parts_keep_their_weights_apart(tmp_path: Path) -> None:
    class Nested(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.net[0] = torch.compile(self.net[0], backend="eager")  # type: ignore[assignment]
            self.net = torch.compile(self.net, backend="eager")  # type: ignore[assignment]

    path, module = tmp_path / "a.ckpt", Nested()
    trainer_in(tmp_path, max_epochs=1).fit(module, loader())
    assert "net._orig_mod.0._orig_mod.weight" in module.state_dict()
    module.trainer.save_checkpoint(path)
    assert list(torch.load(path, weights_only=True)["state_dict"]) == list(Silent().state_dict())
    for again in (Nested(), Silent()):
        trainer_in(tmp_path).validate(again, loader(1), ckpt_path=path, verbose=False)
        for ours, theirs in zip(again.state_dict().values(), module.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_checkpoint_that_has_the_compilers_names_can_be_loaded(tmp_path: Path) -> None:
    path, module = tmp_path / "a.ckpt", Silent()
    fitted(module, tmp_path, max_epochs=1).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"] = {f"_orig_mod.{name}": weight for name, weight in checkpoint["state_dict"].items()}
    torch.save(checkpoint, path)
    again = Silent()
    trainer_in(tmp_path).validate(again, loader(1), ckpt_path=path, verbose=False)
    assert torch.equal(again.state_dict()["net.0.weight"], module.state_dict()["net.0.weight"])


def test_a_step_that_fetches_its_batches_itself_is_compiled_too(tmp_path: Path) -> None:
    class Fetches(Regression):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            batch, _, _ = next(dataloader_iter)
            other, _, _ = next(dataloader_iter)  # five batches: the third step of an epoch has not enough of them
            return loss_of(self.net, batch) + loss_of(self.net, other)

    graphs, module, plain = Graphs(), Fetches(), Fetches()
    trainer = trainer_in(tmp_path)
    trainer.fit(compiled(module, graphs), loader())
    trainer_in(tmp_path).fit(plain, loader())
    assert graphs.calls >= trainer.global_step == 4
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)


# module.compile()


def test_a_module_that_was_compiled_in_place_runs_its_forward_compiled(tmp_path: Path) -> None:
    class Forwards(Silent):
        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.net(x)
            return answer

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return nn.functional.mse_loss(self(batch[1]), batch[2])

    graphs, module, plain = Graphs(), Forwards(), Forwards()
    module.compile(backend=graphs)
    trainer = fitted(module, tmp_path)
    assert graphs.calls == 10
    fitted(plain, tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert list(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]) == list(plain.state_dict())
    for name, weight in plain.state_dict().items():
        assert_close(module.state_dict()[name], weight)


# The module itself


def test_a_module_can_be_compiled_and_taken_back(tmp_path: Path) -> None:
    graphs, module = Graphs(), Silent()
    assert from_compiled(compiled(module, graphs)) is module
    fitted(module, tmp_path, limit_val_batches=0)
    assert graphs.calls == 10
    assert to_uncompiled(module) is module
    fitted(module, tmp_path, limit_val_batches=0)
    assert graphs.calls == 10
    assert to_uncompiled(compiled(module, graphs)) is module
    fitted(module, tmp_path, limit_val_batches=0)
    assert graphs.calls == 10


@pytest.mark.parametrize("in_place", [True, False])
def test_a_copy_and_a_pickle_of_a_compiled_module_are_not_compiled(in_place: bool, tmp_path: Path) -> None:
    own = Silent()
    if in_place:
        own.compile(backend="eager")
    else:
        from_compiled(compiled(own))
    for again in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert again._compiler is None
        assert again._compiled_call_impl is None
        for name, weight in own.state_dict().items():
            assert torch.equal(again.state_dict()[name], weight)


def test_what_is_compiled_has_to_be_a_lightning_module(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"torch\.compile was called on a Linear, which is no LightningMod"):
        trainer_in(tmp_path).fit(torch.compile(nn.Linear(1, 1), backend="eager"), loader())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"from_compiled\(\) got a Silent, and what torch\.compile\(module\) returns"):
        from_compiled(Silent())
    with pytest.raises(MisconfigurationError, match=r"to_uncompiled\(\) got a Silent that was not compiled"):
        to_uncompiled(Silent())
    with pytest.raises(TypeError, match=r"to_uncompiled\(\) got a Linear, and a module is needed"):
        to_uncompiled(nn.Linear(1, 1))


def test_a_compiled_module_without_a_step_is_told_so(tmp_path: Path) -> None:
    class Nothing(LightningModule):
        pass

    with pytest.raises(MisconfigurationError, match=r"Nothing does not define training_step\(\)"):
        trainer_in(tmp_path).fit(compiled(Nothing()), loader())
