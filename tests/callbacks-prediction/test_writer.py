"""`PredictionWriter`: what was written, read back, is what a plain loop computes."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop.errors import CheckpointError, HookloopError, MisconfigurationError
from hookloop_callbacks_prediction import PredictionWriter, read_predictions
from predicting import Classifier, Named, Runs, Samples, Stream, in_batches, plainly

FORMATS = ["pt", "csv", "npz"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["pt", "npz"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_written_is_what_a_plain_loop_computes(form: Any, workers: int, runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, form, batches_per_part=2), in_batches(9, num_workers=workers))
    read = read_predictions(runs.out)

    assert read["sample"].tolist() == list(range(9))
    assert torch.equal(read["prediction"], plainly(Classifier(), Samples(9))[0])
    assert set(read) == {"sample", "prediction"}


def test_csv_has_a_column_for_each_number_and_loses_none_of_its_digits(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, "csv", batches_per_part=2), in_batches(5))
    read = read_predictions(runs.out)
    expected = plainly(Classifier(), Samples(5))[0]

    assert torch.equal(torch.stack([read["prediction.0"], read["prediction.1"]], 1).float(), expected)
    with (runs.out / "part-0-0-00000000-00000002.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["batch", "sample", "prediction.0", "prediction.1"]
    assert [row[:2] for row in rows[1:]] == [["0", "0"], ["0", "1"], ["1", "2"], ["1", "3"]]


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_in_the_order_of_the_dataset_whatever_the_loader_gave(form: Any, runs: Runs) -> None:
    loader = in_batches(9, shuffle=True, generator=torch.Generator().manual_seed(4))
    runs.predict(PredictionWriter(runs.out, form), loader)
    read, expected = read_predictions(runs.out), plainly(Classifier(), Samples(9))[0]
    first = read["prediction.0"].float() if form == "csv" else read["prediction"][:, 0]

    assert read["sample"].tolist() == list(range(9))
    assert torch.equal(first, expected[:, 0])


@pytest.mark.parametrize("form", FORMATS)
def test_two_loaders_are_read_one_by_one(form: Any, runs: Runs) -> None:
    loaders = [in_batches(5), DataLoader(Samples(3, seed=8), batch_size=2)]
    runs.predict(PredictionWriter(runs.out, form), loaders)
    for index, expected in enumerate(plainly(Classifier(), Samples(5), Samples(3, seed=8))):
        read = read_predictions(runs.out, index)
        first = read["prediction.0"].float() if form == "csv" else read["prediction"][:, 0]
        assert torch.equal(first, expected[:, 0])
    with pytest.raises(HookloopError, match=r"dataloader_idx=2 must be from 0 to 1: .* the predictions of 2 loader"):
        read_predictions(runs.out, 2)


def test_a_stream_is_read_in_the_order_of_its_batches(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, "npz"), DataLoader(Stream(5), batch_size=2))
    read = read_predictions(runs.out)

    assert read["sample"].tolist() == [-1] * 5
    assert torch.equal(read["prediction"], plainly(Classifier(), Samples(5))[0])


@pytest.mark.parametrize("form", FORMATS)
def test_nested_predictions_have_a_column_each(form: Any, runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, form, batches_per_part=2), in_batches(7), Named())
    read, answer = read_predictions(runs.out), plainly(Named(), Samples(7))[0]
    best = answer.argmax(1)

    assert torch.equal(read["best"], best)
    assert read["word"] == ["no" if one else "yes" for one in best.tolist()]
    assert torch.equal(read["pair.0"].float(), answer[:, 0])
    assert torch.equal(read["pair.1"], answer[:, 1] > 0)
    cube = torch.stack([answer, -answer], 2).half()
    if form == "csv":
        assert torch.equal(read["cube.1.0"].half(), cube[:, 1, 0])
    else:
        assert torch.equal(read["cube"], cube)


def test_pt_keeps_what_predict_step_returned_as_it_is(runs: Runs) -> None:
    class Odd(Classifier):
        def shaped(self, answer: torch.Tensor) -> Any:
            return {"sum": answer.sum(), "note": "of a batch", "rows": [answer[:1], answer]}

    runs.predict(PredictionWriter(runs.out), in_batches(4), Odd())
    parts = torch.load(runs.out / "part-0-0-00000000-00000002.pt", weights_only=True)
    expected = plainly(Classifier(), Samples(4))[0]

    assert parts["batches"] == [0, 1]
    assert parts["samples"] == [[0, 1], [2, 3]]
    assert parts["predictions"][1]["note"] == "of a batch"
    assert torch.equal(parts["predictions"][1]["sum"], expected[2:].sum())
    assert torch.equal(parts["predictions"][1]["rows"][1], expected[2:])


def test_bfloat16_becomes_float32_where_a_format_has_no_such_thing(runs: Runs) -> None:
    class Rounded(Classifier):
        def shaped(self, answer: torch.Tensor) -> Any:
            return answer.bfloat16()

    runs.predict(PredictionWriter(runs.out, "npz"), in_batches(4), Rounded())

    read = read_predictions(runs.out)["prediction"]
    assert read.dtype == torch.float32
    assert torch.equal(read, plainly(Rounded(), Samples(4))[0].bfloat16().float())


def test_a_view_is_written_without_what_it_is_a_view_of(runs: Runs) -> None:
    class Views(Classifier):
        def shaped(self, answer: torch.Tensor) -> Any:
            return torch.zeros(1000, 1000)[: len(answer), :1]

    runs.predict(PredictionWriter(runs.out), in_batches(4), Views())
    assert (runs.out / "part-0-0-00000000-00000002.pt").stat().st_size < 10_000


def test_parts_hold_so_many_batches_and_a_plan_says_that_they_are_all(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out, batches_per_part=2), in_batches(10))

    assert names(runs.out) == [
        "part-0-0-00000000-00000002.pt",
        "part-0-0-00000002-00000004.pt",
        "part-0-0-00000004-00000005.pt",
        "predictions.json",
    ]
    assert '"complete": true' in (runs.out / "predictions.json").read_text()


def test_no_more_than_a_part_is_in_memory(runs: Runs) -> None:
    waiting: list[int] = []

    class Looks(Classifier):
        def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            waiting.append(len(writer._waiting))

    writer = PredictionWriter(runs.out, batches_per_part=3)
    runs.predict(writer, in_batches(20), Looks())
    assert max(waiting) == 2


def test_predictions_are_returned_too_if_they_are_asked_for(runs: Runs) -> None:
    returned = runs.predict(PredictionWriter(runs.out), in_batches(6), keep=None)

    assert torch.equal(torch.cat(returned), read_predictions(runs.out)["prediction"])


def test_predict_iter_is_written_as_it_goes(runs: Runs) -> None:
    steps = runs.trainer(PredictionWriter(runs.out, batches_per_part=1)).predict_iter(Classifier(), in_batches(6))
    next(steps)
    assert len(read_predictions(runs.out, incomplete=True)["prediction"]) == 2
    list(steps)
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(6))[0])


def test_two_writers_write_side_by_side(runs: Runs) -> None:
    forms: list[tuple[Any, int]] = [("pt", 1), ("npz", 4)]
    writers = [PredictionWriter(runs.out / form, form, batches_per_part=part) for form, part in forms]
    runs.predict(writers, in_batches(10))

    expected = plainly(Classifier(), Samples(10))[0]
    for form in ("pt", "npz"):
        assert torch.equal(read_predictions(runs.out / form)["prediction"], expected)


def test_a_trial_run_leaves_no_files(runs: Runs) -> None:
    runs.predict(PredictionWriter(runs.out), in_batches(4), fast_dev_run=True)
    assert not runs.out.exists()


# what cannot be written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": ""}, r"PredictionWriter\(folder=''\) must be the path of a folder"),
        ({"folder": 3}, r"PredictionWriter\(folder=3\) must be the path of a folder"),
        ({"folder": "s3://bucket/out"}, r"s3://bucket/out'\) must be a folder of this machine: parts are renamed"),
        ({"folder": __file__}, r"must be a folder, and .*test_writer.py' is a file. Choose another one"),
        ({"format": "xls"}, r"PredictionWriter\(format='xls'\) must be one of 'pt', 'csv', 'npz', 'parquet'"),
        ({"format": None}, r"PredictionWriter\(format=None\) must be one of"),
        ({"batches_per_part": 0}, r"batches_per_part=0\) must be a whole number of at least 1"),
        ({"batches_per_part": True}, r"batches_per_part=True\) must be a whole number of at least 1"),
        ({"rerun": "resume"}, r"""rerun='resume'\) must be "refuse" or "replace"."""),
        ({"check_weights": 1}, r"check_weights=1\) must be True or False"),
    ],
)
def test_an_argument_that_is_wrong_is_an_error(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        PredictionWriter(**{"folder": tmp_path / "out", **arguments})


@pytest.mark.parametrize(
    ("form", "module", "others"), [("parquet", "pyarrow", "'pt', 'csv'"), ("npz", "numpy", "'pt', 'csv'")]
)
def test_a_format_whose_library_is_missing_says_what_to_install(
    form: Any, module: str, others: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    expected = (
        rf"PredictionWriter\(format='{form}'\) needs {module}, which cannot be imported .*pip install "
        rf'"hookloop-callbacks-prediction\[{form}\]"`, or choose another format: {others}\.'
    )
    with pytest.raises(MisconfigurationError, match=expected):
        PredictionWriter(tmp_path, form)


@pytest.mark.parametrize(
    ("shaped", "message"),
    [
        (lambda answer: answer.sum(0)[:1], r"Batch 0 has 2 samples, .* no row for each of them: prediction has 1"),
        (lambda answer: {"a": answer, "b": answer[1:]}, r"no row for each of them: b has 1. Return tensors of shape"),
        (lambda answer: {}, r"no row for each of them: it is empty"),
        (lambda answer: {"a": object()}, r"predict_step returned under 'a' a object, of which no rows can be made"),
        (lambda answer: {"sample": answer}, r"predict_step returned something called 'sample', and that is the name"),
    ],
)
def test_a_prediction_without_rows_is_an_error_where_rows_are_needed(shaped: Any, message: str, runs: Runs) -> None:
    model = Classifier()
    model.shaped = shaped  # type: ignore[method-assign]
    with pytest.raises(MisconfigurationError, match=message):
        runs.predict(PredictionWriter(runs.out, "csv"), in_batches(4), model)


def test_rows_that_differ_from_batch_to_batch_are_an_error(runs: Runs) -> None:
    class Grows(Classifier):
        def shaped(self, answer: torch.Tensor) -> Any:
            return answer.new_zeros(len(answer), len(self.computed))

    with pytest.raises(MisconfigurationError, match=r"the rows of prediction have several shapes, \(1,\) and \(2,\)"):
        runs.predict(PredictionWriter(runs.out, "npz"), in_batches(4), Grows())


def test_columns_that_differ_from_batch_to_batch_are_an_error(runs: Runs) -> None:
    class Renames(Classifier):
        def shaped(self, answer: torch.Tensor) -> Any:
            return {f"from_{len(self.computed)}": answer}

    with pytest.raises(MisconfigurationError, match=r"one batch has the columns batch, sample, from_1, another one"):
        runs.predict(PredictionWriter(runs.out, "npz"), in_batches(4), Renames())


def test_what_could_not_be_loaded_is_not_saved(runs: Runs) -> None:
    model = Classifier()
    model.shaped = lambda answer: Path("x")  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="predictions"):
        runs.predict(PredictionWriter(runs.out), in_batches(4), model)


def test_a_full_disk_says_so_and_what_was_written_stays(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    class Fills(Classifier):
        def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            if batch_idx == 2:
                monkeypatch.setattr("os.fsync", full)

    with pytest.raises(HookloopError, match=r"could not be written to .*part-0-0-00000002-00000003.pt.*goes on behind"):
        runs.predict(PredictionWriter(runs.out, batches_per_part=1), in_batches(8), Fills())
    monkeypatch.undo()
    assert names(runs.out) == ["part-0-0-00000000-00000001.pt", "part-0-0-00000001-00000002.pt", "predictions.json"]
    runs.predict(PredictionWriter(runs.out, batches_per_part=1), in_batches(8))
    assert torch.equal(read_predictions(runs.out)["prediction"], plainly(Classifier(), Samples(8))[0])


# what cannot be read


def test_a_folder_without_a_prediction_says_so(tmp_path: Path) -> None:
    with pytest.raises(HookloopError, match=re.escape("has no predictions.json, so no PredictionWriter has written")):
        read_predictions(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 9, "complete": true}', '{"complete": true}'])
def test_a_plan_that_cannot_be_read_is_an_error(text: str, runs: Runs) -> None:
    runs.out.mkdir()
    (runs.out / "predictions.json").write_text(text)
    for use in (lambda: read_predictions(runs.out), lambda: runs.predict(PredictionWriter(runs.out), in_batches(4))):
        with pytest.raises(HookloopError, match=r"predictions.json cannot be read .*Delete the folder, or choose ano"):
            use()
