"""A prediction that was interrupted goes on behind its last part: nothing is missing, and nothing is there twice."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import LambdaCallback
from hookloop.errors import HookloopError, MisconfigurationError
from hookloop_callbacks_prediction import PredictionWriter, read_predictions
from predicting import Classifier, Runs, Samples, StoppedError, Stream, in_batches, plainly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def rows(folder: Path) -> list[int]:
    """The samples of all parts, as often as they are written."""
    found: list[int] = []
    for path in folder.glob("part-*.pt"):
        contents = torch.load(path, weights_only=True)
        found += [sample for batch in contents["samples"] for sample in batch]
    return sorted(found)


def interrupt(runs: Runs, loaders: Any, at: tuple[int, int], **arguments: Any) -> None:
    writer = PredictionWriter(runs.out, **{"batches_per_part": 2, **arguments})
    with pytest.raises(StoppedError):
        runs.predict(writer, loaders, Classifier(stop_at=at))


@pytest.mark.parametrize("form", ["pt", "csv", "npz"])
@pytest.mark.parametrize("at", range(5))
def test_the_next_run_computes_the_rest_and_nothing_twice(form: Any, at: int, runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, at), format=form)
    model = Classifier()
    runs.predict(PredictionWriter(runs.out, form, batches_per_part=2), in_batches(10), model)
    read, expected = read_predictions(runs.out), plainly(Classifier(), Samples(10))[0]
    first = read["prediction.0"].float() if form == "csv" else read["prediction"][:, 0]

    assert model.computed == [(0, index) for index in range(at, 5)]
    assert read["sample"].tolist() == list(range(10))
    assert torch.equal(first, expected[:, 0])
    if form == "pt":
        assert rows(runs.out) == list(range(10))


@pytest.mark.parametrize("at", [(0, 1), (1, 0), (1, 2)])
def test_it_goes_on_in_the_loader_in_which_it_was(at: tuple[int, int], runs: Runs) -> None:
    def loaders() -> list[Any]:
        return [in_batches(6), DataLoader(Samples(7, seed=3), batch_size=2, num_workers=1)]

    interrupt(runs, loaders(), at)
    model = Classifier()
    runs.predict(PredictionWriter(runs.out), loaders(), model)

    everything = [*((0, index) for index in range(3)), *((1, index) for index in range(4))]
    assert model.computed == everything[everything.index(at) :]
    for index, expected in enumerate(plainly(Classifier(), Samples(6), Samples(7, seed=3))):
        assert torch.equal(read_predictions(runs.out, index)["prediction"], expected)


def test_samples_that_are_done_are_not_read_again(runs: Runs) -> None:
    class Reads(Samples):
        def __getitem__(self, index: int) -> torch.Tensor:
            read.append(index)
            return super().__getitem__(index)

    read: list[int] = []
    interrupt(runs, DataLoader(Reads(10), batch_size=2), (0, 3))
    read.clear()
    runs.predict(PredictionWriter(runs.out), DataLoader(Reads(10), batch_size=2))

    assert read == [6, 7, 8, 9]


def test_a_stream_is_read_again_and_its_batches_are_not_computed_again(runs: Runs) -> None:
    interrupt(runs, DataLoader(Stream(9), batch_size=2), (0, 3))
    model = Classifier()
    runs.predict(PredictionWriter(runs.out), DataLoader(Stream(9), batch_size=2), model)

    assert model.computed == [(0, 3), (0, 4)]
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(9))[0])


def test_what_is_returned_is_complete_and_what_was_written_is_not_written_again(runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, 3))
    written = {path: path.stat().st_mtime_ns for path in runs.out.glob("part-*")}
    returned = runs.predict(PredictionWriter(runs.out), in_batches(10), keep=True)

    expected = plainly(Classifier(), Samples(10))[0]
    assert torch.equal(torch.cat(returned), expected)
    assert torch.equal(read_predictions(runs.out)["prediction"], expected)
    assert rows(runs.out) == list(range(10))
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_seeded_order_is_gone_on_with_and_another_one_is_refused(runs: Runs) -> None:
    def shuffled(seed: int) -> Any:
        return in_batches(10, shuffle=True, generator=torch.Generator().manual_seed(seed))

    interrupt(runs, shuffled(1), (0, 3))
    expected = r"part-0-0-00000000-00000002.pt holds the samples \[.*\] as batch 0, and now that batch is of .*shuffle"
    for keep in (True, False):
        with pytest.raises(MisconfigurationError, match=expected):
            runs.predict(PredictionWriter(runs.out), shuffled(2), keep=keep)
    runs.predict(PredictionWriter(runs.out), shuffled(1))
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(10))[0])


def test_an_interrupted_prediction_is_read_where_that_is_asked_for(runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, 3))
    with pytest.raises(
        HookloopError, match=r"holds a prediction that was interrupted. Run it again to complete it, or"
    ):
        read_predictions(runs.out)

    read = read_predictions(runs.out, incomplete=True)
    assert torch.equal(read["prediction"], plainly(Classifier(), Samples(10))[0][:6])


# a rerun


def test_a_complete_prediction_is_not_written_over(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out), in_batches(4))
    before = {path.name: path.read_bytes() for path in runs.out.iterdir()}
    with pytest.raises(MisconfigurationError, match=r"holds a complete prediction. Read it .*rerun=\"replace\""):
        runs.predict(PredictionWriter(runs.out), in_batches(4), Classifier(seed=2))
    assert {path.name: path.read_bytes() for path in runs.out.iterdir()} == before


def test_it_is_replaced_where_that_is_asked_for_and_other_files_stay(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, batches_per_part=1), in_batches(8))
    (runs.out / "notes.txt").write_text("mine")
    runs.predict(PredictionWriter(runs.out, "npz", rerun="replace"), in_batches(4), Classifier(seed=2))

    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(seed=2), Samples(4))[0])
    assert (runs.out / "notes.txt").read_text() == "mine"
    assert not list(runs.out.glob("*.pt"))


def test_a_job_that_replaces_goes_on_too_after_it_was_interrupted(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out), in_batches(10), Classifier(seed=2))
    interrupt(runs, in_batches(10), (0, 3), rerun="replace")
    model = Classifier()
    runs.predict(PredictionWriter(runs.out, rerun="replace"), in_batches(10), model)

    assert model.computed == [(0, 3), (0, 4)]
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(10))[0])


@pytest.mark.parametrize(
    ("writer", "loader", "seed", "difference"),
    [
        ({"format": "npz"}, in_batches(10), 1, "format: pt then, npz now"),
        ({}, in_batches(8), 1, r"batches: \[5\] then, \[4\] now"),
        ({}, in_batches(10), 2, "the model has other weights now"),
    ],
)
def test_what_cannot_be_gone_on_with_is_an_error_or_replaced(
    writer: dict[str, Any], loader: Any, seed: int, difference: str, runs: Runs
) -> None:
    interrupt(runs, in_batches(10), (0, 3))
    with pytest.raises(
        MisconfigurationError, match=rf"interrupted prediction that .* cannot go on with \({difference}\)"
    ):
        runs.predict(PredictionWriter(runs.out, **writer), loader, Classifier(seed))
    assert rows(runs.out) == list(range(6))

    runs.predict(PredictionWriter(runs.out, rerun="replace", **writer), loader, Classifier(seed))
    expected = plainly(Classifier(seed), loader.dataset)[0]
    assert torch.equal(read_predictions(runs.out)["prediction"], expected)


def test_weights_are_not_compared_if_that_is_not_wanted(runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, 3), check_weights=False)
    model = Classifier(seed=2)
    runs.predict(PredictionWriter(runs.out, check_weights=False), in_batches(10), model)

    assert model.computed == [(0, 3), (0, 4)]


def test_parts_without_a_plan_are_refused_or_replaced(runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, 3))
    (runs.out / "predictions.json").unlink()
    with pytest.raises(MisconfigurationError, match=r"has 2 parts, such as part-0-0-.*, and no predictions.json that"):
        runs.predict(PredictionWriter(runs.out), in_batches(10))
    runs.predict(PredictionWriter(runs.out, rerun="replace"), in_batches(10))
    assert rows(runs.out) == list(range(10))


def test_what_lies_behind_a_part_that_is_gone_is_computed_again(runs: Runs) -> None:
    interrupt(runs, in_batches(10), (0, 4), batches_per_part=1)
    (runs.out / "part-0-0-00000001-00000002.pt").unlink()
    model = Classifier()
    runs.predict(PredictionWriter(runs.out, batches_per_part=3), in_batches(10), model)

    assert model.computed == [(0, index) for index in range(1, 5)]
    assert rows(runs.out) == list(range(10))
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(10))[0])


def test_leaving_predict_iter_early_is_an_interruption_too(runs: Runs) -> None:
    steps = runs.trainer(PredictionWriter(runs.out)).predict_iter(Classifier(), in_batches(10))
    next(steps)
    next(steps)
    steps.close()
    model = Classifier()
    runs.predict(PredictionWriter(runs.out), in_batches(10), model)

    assert model.computed == [(0, 2), (0, 3), (0, 4)]
    assert rows(runs.out) == list(range(10))


def test_a_sigterm_writes_what_was_computed(runs: Runs) -> None:
    sends = LambdaCallback(
        on_predict_batch_start=lambda trainer, module, batch, index: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(SystemExit):
        runs.predict([PredictionWriter(runs.out), sends], in_batches(10))

    assert rows(runs.out) == [0, 1]


# killed


def dies(work: Callable[[], object]) -> bool:
    """Whether the work, done in a fork, is killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("at", [0, 1, 4, 7, 9])
def test_killed_in_a_batch_nothing_is_missing_and_nothing_twice(at: int, runs: Runs) -> None:
    class Dies(Classifier):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            if batch_idx == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().predict_step(batch, batch_idx)

    assert dies(lambda: runs.predict(PredictionWriter(runs.out, batches_per_part=3), in_batches(20), Dies()))
    model = Classifier()
    runs.predict(PredictionWriter(runs.out, batches_per_part=3), in_batches(20), model)

    assert model.computed[0] == (0, at // 3 * 3)
    assert rows(runs.out) == list(range(20))
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(20))[0])


def test_killed_before_each_thing_that_it_does_to_the_folder_the_next_run_completes_it(runs: Runs) -> None:
    expected = plainly(Classifier(), Samples(10))[0]
    deeds = 0
    killed = True
    while killed:
        runs.out = runs.folder / f"out_{deeds}"
        left = [deeds]

        def look(event: str, arguments: tuple[Any, ...], left: list[int] = left) -> None:
            writes = event == "open" and str(arguments[0]).endswith(".partial")
            if writes or event in ("os.rename", "os.remove"):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def work(look: Any = look) -> None:
            sys.addaudithook(look)
            runs.predict(PredictionWriter(runs.out, batches_per_part=2), in_batches(10))

        killed = dies(work)
        if killed:  # the last time it was complete by then
            runs.predict(PredictionWriter(runs.out, batches_per_part=2, rerun="replace"), in_batches(10))
        assert rows(runs.out) == list(range(10))
        assert torch.equal(read_predictions(runs.out)["prediction"], expected)
        assert not list(runs.out.glob(".*"))
        deeds += 1
    assert deeds > 10
