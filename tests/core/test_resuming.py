"""What `ckpt_path` stands for: which file is taken, by which rank, and what is said about it."""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Trainer
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError, HookloopError, MisconfigurationError, MisconfigurationTypeError
from hookloop.stage import TrainerFn
from hookloop.trainer.resuming import find_checkpoint
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, Saves, assert_same_training, loader, trainer_in
from .offering import Knows, Reads, checkpoints_in, flipped, removed, weights_alone


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return checkpoints_in(tmp_path)


# ------------------------------------------------------------------------------------------------ which file


@pytest.mark.parametrize("kind", [str, Path])
def test_best_is_what_the_first_callback_answers_that_knows_one(
    kind: type[str] | type[Path], files: list[Path]
) -> None:
    ignorant, knowing, late = Knows(), Knows(best=kind(files[1])), Knows(best="nowhere.ckpt")
    trainer, module = trainer_in(files[0].parent, Callback(), ignorant, knowing, late, max_epochs=1), Regression()
    trainer.fit(module, loader(), ckpt_path="best")
    assert module.marks == ["t2", "t3", "t4"]
    assert trainer.ckpt_path == str(files[1])


@pytest.mark.parametrize("which", ["last", "auto"])
@pytest.mark.parametrize("kind", [str, Path])
def test_last_and_auto_are_the_first_of_a_callback_s_files_and_no_other_one_is_opened(
    kind: type[str] | type[Path], which: str, files: list[Path]
) -> None:
    reads = Reads()
    knows = Knows(**{which: [kind(files[1]), kind(files[3]), kind(files[0])]})  # its own order counts, not their age
    trainer, module = trainer_in(files[0].parent, knows, max_epochs=1, plugins=reads), Regression()
    trainer.fit(module, loader(), ckpt_path=which)
    assert knows.asked == [which]
    assert reads.opened == ["step2.ckpt"]
    assert module.marks == ["t2", "t3", "t4"]
    assert trainer.ckpt_path == str(files[1])


@pytest.mark.parametrize("which", ["last", "auto"])
def test_of_several_callbacks_the_newest_file_is_taken(which: str, files: list[Path]) -> None:
    one, two = Knows(**{which: [files[1], files[0]]}), Knows(**{which: [files[3], files[2]]})
    for callbacks in ([one, two], [two, Knows(), one]):
        trainer = trainer_in(files[0].parent, *callbacks, max_epochs=1)
        trainer.fit(Regression(), loader(), ckpt_path=which)
        assert trainer.ckpt_path == str(files[3])
    flipped(files[3])
    os.utime(files[3], ns=(0, 10**18))
    os.utime(files[1], ns=(0, 10**18 - 10**6))
    reads = Reads()
    trainer = trainer_in(files[0].parent, one, two, max_epochs=1, plugins=reads)
    with pytest.warns(UserWarning, match=r"passes over .*step4\.ckpt"):
        trainer.fit(Regression(), loader(), ckpt_path=which)
    assert trainer.ckpt_path == str(files[1])
    assert reads.opened == ["step4.ckpt", "step2.ckpt"]


def test_files_of_the_same_age_are_taken_in_the_order_of_their_callbacks(files: list[Path]) -> None:
    for path in files:
        os.utime(path, ns=(0, 0))
    trainer = trainer_in(files[0].parent, Knows(last=files[2]), Knows(last=files[3]), max_epochs=1)
    trainer.fit(Regression(), loader(), ckpt_path="last")
    assert trainer.ckpt_path == str(files[2])


def test_a_file_that_two_callbacks_name_is_opened_once(files: list[Path]) -> None:
    flipped(files[3])
    reads = Reads()
    callbacks = Knows(last=[files[3], files[0]]), Knows(last=[files[3], files[0]])
    with pytest.warns(UserWarning, match="passes over") as warned:
        trainer_in(files[0].parent, *callbacks, max_epochs=1, plugins=reads).fit(
            Regression(), loader(), ckpt_path="last"
        )
    assert reads.opened == ["step4.ckpt", "step1.ckpt"]
    assert len(warned) == 1


@pytest.mark.parametrize("which", ["best", "last", "auto"])
def test_a_path_that_is_called_like_a_name_is_a_path(
    which: str, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files[0].parent)
    files[1].rename(which)
    trainer, module = trainer_in(files[0].parent, max_epochs=1), Regression()
    trainer.fit(module, loader(), ckpt_path=Path(which))
    assert module.marks == ["t2", "t3", "t4"]


@pytest.mark.parametrize("answer", [7, [7], {"last.ckpt"}, b"last.ckpt"])
def test_an_answer_that_is_no_path_is_an_error_that_names_its_callback(answer: Any, tmp_path: Path) -> None:
    message = r"Knows\.resolve_checkpoint\('last'\) returned .*: a path is needed, a sequence of paths"
    with pytest.raises(MisconfigurationTypeError, match=message):
        trainer_in(tmp_path, Knows(last=answer)).fit(Regression(), loader(), ckpt_path="last")


# ------------------------------------------------------------------------------------------------ where nobody knows


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    ("callbacks", "named"), [([], "there is none"), ([Knows()], "Knows"), ([Knows(), Knows()], "Knows, Knows")]
)
def test_best_and_last_are_refused_where_nobody_knows(
    callbacks: list[Callback], named: str, entry: str, tmp_path: Path
) -> None:
    for which in ("best", "last"):
        advice = "dirpath=" if callbacks else "pip install hookloop-callbacks-checkpoint"
        message = rf'ckpt_path="{which}": no callback knows.*callbacks: {named}\).*{advice}'
        with pytest.raises(MisconfigurationError, match=message):
            getattr(trainer_in(tmp_path, *callbacks), entry)(Regression(), loader(), ckpt_path=which)


@pytest.mark.parametrize(
    ("callbacks", "named", "advice"),
    [([], "there is none", r"add a checkpoint callback \(pip install"), ([Knows()], "Knows", r"\(dirpath=\.\.\.\)")],
)
def test_auto_is_refused_where_no_callback_can_tell_as_each_restart_would_begin_anew(
    callbacks: list[Callback], named: str, advice: str, tmp_path: Path
) -> None:
    module = Regression()
    message = rf'ckpt_path="auto": no callback can tell .* each restart would start anew \(.*{named}\)\..*{advice}'
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, *callbacks).fit(module, loader(), ckpt_path="auto")
    assert module.marks == []


def test_last_is_refused_where_there_is_no_file_yet(tmp_path: Path) -> None:
    message = (
        r'ckpt_path="last": no callback knows of such a checkpoint .* Pass a path, "auto" to begin anew as long as'
    )
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, Knows(last=[])).fit(Regression(), loader(), ckpt_path="last")
    with pytest.raises(MisconfigurationError, match=r"knows of such a checkpoint .* Pass a path, or give the callback"):
        trainer_in(tmp_path, Knows(last=[])).validate(Regression(), loader(), ckpt_path="last")


def test_auto_begins_anew_where_there_is_no_file_yet_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, module = trainer_in(tmp_path, Knows(), Knows(auto=[]), max_epochs=1), Regression()
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "hookloop"):
        warnings.simplefilter("error")
        trainer.fit(module, loader(), ckpt_path="auto")
    assert len(module.marks) == BATCHES
    assert trainer.ckpt_path is None
    assert "there is no intact checkpoint of this run yet, so training starts anew." in caplog.text


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_auto_is_for_fit_alone(entry: str, tmp_path: Path) -> None:
    message = rf'trainer\.{entry}\(ckpt_path="auto"\).*for fit alone\. Pass "last"'
    with pytest.raises(MisconfigurationError, match=message):
        getattr(trainer_in(tmp_path, Knows(auto=[])), entry)(Regression(), loader(), ckpt_path="auto")


def test_a_fast_dev_run_begins_anew_whatever_auto_would_find(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    for callbacks in ([Knows(auto=files)], []):
        trainer, module = trainer_in(files[0].parent, *callbacks, fast_dev_run=True), Regression()
        with caplog.at_level(logging.INFO, "hookloop"):
            trainer.fit(module, loader(), ckpt_path="auto")
        assert module.marks == ["t0"]
        assert trainer.ckpt_path is None
        assert "a fast_dev_run neither saves nor resumes, so training starts anew" in caplog.text
        caplog.clear()


def test_last_in_a_fast_dev_run_is_told_that_nothing_is_kept_there(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="Pass a path, or leave out fast_dev_run, which keeps no"):
        trainer_in(tmp_path, fast_dev_run=True).fit(Regression(), loader(), ckpt_path="last")


# ------------------------------------------------------------------------------------------------ and then


@pytest.mark.parametrize("which", ["a path", "best", "last", "auto"])
def test_it_is_said_what_a_run_goes_on_with(which: str, files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_in(files[0].parent, Knows(best=files[2], last=files[2], auto=files[2]), max_epochs=1)
    with caplog.at_level(logging.INFO, "hookloop"):
        trainer.fit(Regression(), loader(), ckpt_path=files[2] if which == "a path" else which)
    assert [record.getMessage() for record in caplog.records] == [f"Resuming from {files[2]} (epoch 0, step 3)."]


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
@pytest.mark.parametrize("spoil", [flipped, removed], ids=lambda spoil: spoil.__name__)
def test_an_evaluation_takes_the_newest_intact_file_too(
    spoil: Callable[[Path], None], entry: str, files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    weights = read_checkpoint(files[2])["state_dict"]
    spoil(files[3])
    weights_alone(files[2])  # more than these it does not need
    trainer, module, reads = trainer_in(files[0].parent, Knows(last=files[::-1])), Regression(), Reads()
    trainer.strategy.checkpoint_io = reads
    with pytest.warns(UserWarning, match=r"passes over .*step4\.ckpt"), caplog.at_level(logging.INFO, "hookloop"):
        getattr(trainer, entry)(module, loader(2), ckpt_path="last")
    assert all(torch.equal(module.state_dict()[name], weight) for name, weight in weights.items())
    assert trainer.ckpt_path == str(files[2])
    assert reads.opened == ["step4.ckpt", "step3.ckpt"]
    assert f"Taking the weights of {files[2]} (epoch 0, step 3)." in caplog.text


@pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_epochs": -1, "max_steps": 5}], ids=["epochs", "steps"])
def test_a_job_whose_training_had_ended_trains_no_more_and_ends_without_a_warning(
    limits: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.ckpt"
    first = trainer_in(tmp_path, Saves("on_train_epoch_end", path), **limits)
    first.fit(Regression(), loader())
    again, module = trainer_in(tmp_path, Knows(auto=[path]), **limits), Regression()
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "hookloop"):
        warnings.simplefilter("error")
        again.fit(module, loader(), ckpt_path="auto")
    assert module.marks == []
    limit, value = max(limits.items())  # max_steps, if there are both
    ended = f"Training had ended before, and is not repeated: {limit}={value} is reached (epoch 1, step 5). Raise it"
    assert [record.getMessage()[: len(ended)] for record in caplog.records][1:] == [ended]
    assert_same_training(first, again)
    assert again.state.finished

    raised = trainer_in(tmp_path, Knows(auto=[path]), **({**limits, max(limits): 10} if "max_steps" in limits else {}))
    raised.fit(module, loader(), ckpt_path="auto")
    assert module.marks == ["t0", "t1", "t2", "t3", "t4"]
    assert raised.global_step == 10


def test_a_job_that_a_callback_had_ended_trains_no_more_if_the_callback_asks_again(tmp_path: Path) -> None:
    class Patience(Callback):
        """Ends training for good, and remembers it."""

        spent = False

        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.should_stop = self.spent

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.should_stop = self.spent = True

        def state_dict(self) -> dict[str, Any]:
            return {"spent": self.spent}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.spent = state_dict["spent"]

    path = tmp_path / "last.ckpt"
    first = trainer_in(tmp_path, Patience(), Saves("on_train_epoch_end", path), max_epochs=9)
    first.fit(Regression(), loader())
    again, module = trainer_in(tmp_path, Patience(), Knows(auto=[path]), max_epochs=9), Regression()
    again.fit(module, loader(), ckpt_path="auto")
    assert module.marks == []
    assert_same_training(first, again)


# ------------------------------------------------------------------------------------------------ several processes


class Rank:
    """One of two processes: what rank zero says is kept in a list, from which rank one reads."""

    local_rank, world_size = 0, 2

    def __init__(self, global_rank: int, said: list[Any]) -> None:
        self.global_rank = global_rank
        self.said = said

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        if self.global_rank == 0:
            self.said.append(obj)
            return obj
        return self.said.pop(0)


def found_by_both(knows: list[Knows], trainer: Trainer, which: str) -> list[Any]:
    """What each of two ranks finds, an error as itself; rank one's callbacks know nothing."""
    found: list[Any] = []
    said: list[Any] = []
    for rank, callbacks in enumerate((knows, [Knows()])):
        collectives: Any = Rank(rank, said)
        trainer.strategy.collectives = collectives
        settings: Any = {"weights_only": True, "fast_dev_run": False}
        try:
            path, checkpoints = find_checkpoint(
                trainer, which, TrainerFn.FITTING, callbacks, trainer.strategy, **settings
            )
            found.append((path, [checkpoint["global_step"] for checkpoint in checkpoints]))
        except HookloopError as error:
            found.append(error)
    assert said == []
    return found


@pytest.mark.parametrize("which", ["best", "last", "auto"])
def test_all_ranks_take_what_rank_zero_chose_and_read_nothing_else(which: str, files: list[Path]) -> None:
    reads = Reads()
    if which != "best":
        flipped(files[3])
    offered = files[::-1] if which != "best" else [files[2]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if which != "best" else "error")
        found = found_by_both([Knows(**{which: offered})], trainer_in(files[0].parent, plugins=reads), which)
    assert found == [(str(files[2]), [3])] * 2
    assert reads.opened == [*(["step4.ckpt"] if which != "best" else []), "step3.ckpt", "step3.ckpt"]


def test_all_ranks_begin_anew_if_rank_zero_does(tmp_path: Path) -> None:
    assert found_by_both([Knows(auto=[])], trainer_in(tmp_path), "auto") == [(None, []), (None, [])]


def test_no_rank_waits_for_an_answer_if_rank_zero_finds_nothing(tmp_path: Path) -> None:
    first, second = found_by_both([Knows(last=[])], trainer_in(tmp_path), "last")
    assert isinstance(first, MisconfigurationError)
    assert isinstance(second, CheckpointError)
    assert str(second) == f"Rank zero found no checkpoint to begin with: {first}"


def test_a_loader_of_a_run_that_begins_anew_is_not_read_before_it(tmp_path: Path) -> None:
    """Looking for a checkpoint draws no random number and asks for no sample."""
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    drawn: list[torch.Tensor] = []

    class Draws(Callback):
        def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
            drawn.append(torch.random.get_rng_state())

    one_batch: DataLoader[Any] = loader(1)
    trainer_in(tmp_path, Draws(), Knows(auto=[]), max_epochs=1).fit(Regression(), one_batch, ckpt_path="auto")
    assert torch.equal(drawn[0], before)
