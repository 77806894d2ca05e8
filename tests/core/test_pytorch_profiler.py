"""`PyTorchProfiler`: what is recorded, when, and what is left behind."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, schedule
from torch.utils.data import DataLoader

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.profilers import PyTorchProfiler

CPU = [ProfilerActivity.CPU]
TRAINING_STEP = "[Strategy]SingleDeviceStrategy.training_step"
LAYER = "[module]torch.nn.modules.linear.Linear: layer"


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.layer(batch)

    test_step = validation_step

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        prediction: Tensor = self.layer(batch)
        return prediction

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(batches: int) -> DataLoader[Tensor]:
    return DataLoader(torch.ones(2 * batches, 2), batch_size=2)  # type: ignore[arg-type]


def make_trainer(profiler: PyTorchProfiler | str, folder: Path, **arguments: Any) -> Trainer:
    arguments = {"max_epochs": 1, "logger": False, **arguments}
    return Trainer(
        profiler=profiler, default_root_dir=folder, registered_callbacks=False, accelerator="cpu", **arguments
    )


def profiled(folder: Path | None, **arguments: Any) -> PyTorchProfiler:
    return PyTorchProfiler(folder, activities=CPU, **arguments)


def ranges(path: Path) -> Counter[str]:
    """How often each range of a trace is in it, as JSON readers see it."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


def steps(path: Path) -> list[str]:
    return sorted(name for name in ranges(path) if name.startswith("ProfilerStep#"))


# What is recorded


def test_by_default_the_third_to_fifth_batch_are_in_a_trace_that_json_readers_read(tmp_path: Path) -> None:
    profiler = profiled(tmp_path)
    make_trainer(profiler, tmp_path).fit(Line(), loader(8))
    assert profiler.trace_paths == [tmp_path / "fit-profile-1.pt.trace.json"]
    seen = ranges(profiler.trace_paths[0])
    assert steps(profiler.trace_paths[0]) == ["ProfilerStep#2", "ProfilerStep#3", "ProfilerStep#4"]
    expected = (
        TRAINING_STEP,
        LAYER,
        "optimizer_step",
        "run_training_batch",
        "[_TrainingEpochLoop].train_dataloader_next",
    )
    assert {name: seen[name] for name in expected} == dict.fromkeys(expected, 3)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".txt"] == ["fit-profile.txt"]


@pytest.mark.parametrize(
    ("entry_point", "step"),
    [("fit", "training_step"), ("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step")],
)
def test_each_batch_of_every_stage_is_a_step_of_the_profiler(entry_point: str, step: str, tmp_path: Path) -> None:
    profiler = profiled(tmp_path, schedule=schedule(wait=1, warmup=0, active=2, repeat=1))
    getattr(make_trainer(profiler, tmp_path), entry_point)(Line(), loader(4))
    [path] = profiler.trace_paths
    assert path.name == f"{entry_point}-profile-1.pt.trace.json"
    assert steps(path) == ["ProfilerStep#1", "ProfilerStep#2"]
    assert ranges(path)[f"[Strategy]SingleDeviceStrategy.{step}"] == 2


def test_validation_batches_inside_a_fit_are_steps_and_those_of_the_sanity_check_are_not(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, schedule=schedule(wait=0, warmup=0, active=5, repeat=1))
    make_trainer(profiler, tmp_path, num_sanity_val_steps=2).fit(Line(), loader(3), loader(2))
    [path] = profiler.trace_paths
    assert steps(path) == [f"ProfilerStep#{index}" for index in range(5)]
    seen = ranges(path)
    assert (seen[TRAINING_STEP], seen["run_validation"] > 0) == (3, True)
    # The sanity check ran before the first batch, and so inside of the first step.
    assert seen["[Strategy]SingleDeviceStrategy.validation_step"] == 2 + 2


def test_without_a_schedule_the_whole_run_is_recorded(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, schedule=None)
    make_trainer(profiler, tmp_path, max_epochs=2).fit(Line(), loader(3))
    [path] = profiler.trace_paths
    assert ranges(path)[TRAINING_STEP] == 6
    assert "in 6 batches" in profiler.summary()


def test_every_cycle_of_a_schedule_is_a_trace_of_its_own(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, schedule=schedule(wait=1, warmup=1, active=1, repeat=2))
    make_trainer(profiler, tmp_path).fit(Line(), loader(8))
    assert [steps(path) for path in profiler.trace_paths] == [["ProfilerStep#2"], ["ProfilerStep#5"]]
    assert "the last of 2 recordings in 8 batches" in profiler.summary()


def test_ranges_lie_inside_each_other_so_that_no_time_is_negative(tmp_path: Path) -> None:
    kept: list[Any] = []
    profiler = profiled(tmp_path, on_trace_ready=lambda profile: kept.extend(profile.key_averages()))
    make_trainer(profiler, tmp_path, max_epochs=2).fit(Line(), loader(3), loader(2))
    times = {average.key: average.self_cpu_time_total for average in kept}
    assert {"run_training_epoch", "run_training_batch", "trainer.fit", TRAINING_STEP} <= set(times)
    assert {name: time for name, time in times.items() if time < 0} == {}


def test_a_part_that_a_module_names_is_a_range(tmp_path: Path) -> None:
    class Names(Line):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            with self.trainer.profiler.profile("mine"):
                return super().training_step(batch, batch_idx)

    profiler = profiled(tmp_path)
    make_trainer(profiler, tmp_path).fit(Names(), loader(5))
    assert ranges(profiler.trace_paths[0])["mine"] == 3


# Names of modules


def hooks_of(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_module_names_come_from_hooks_that_are_gone_after_the_run(tmp_path: Path) -> None:
    class Looks(Line):
        inside = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.inside = hooks_of(self)

    module = Looks()
    make_trainer(profiled(tmp_path), tmp_path).fit(module, loader(5))
    assert (module.inside, hooks_of(module)) == (2, 0)


def test_modules_are_named_that_configure_model_made(tmp_path: Path) -> None:
    class Late(Line):
        def configure_model(self) -> None:
            self.layer = nn.Linear(2, 1)

    profiler = profiled(tmp_path)
    make_trainer(profiler, tmp_path).fit(Late(), loader(5))
    assert ranges(profiler.trace_paths[0])[LAYER] == 3


def test_names_of_modules_can_be_left_out(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, record_module_names=False)
    make_trainer(profiler, tmp_path).fit(Line(), loader(5))
    seen = ranges(profiler.trace_paths[0])
    assert seen[TRAINING_STEP] == 3
    assert [name for name in seen if name.startswith("[module]")] == []


def test_a_copy_of_the_module_that_is_made_during_the_run_works_afterwards(tmp_path: Path) -> None:
    class Copies(Line):
        copied: list[nn.Module] = []  # noqa: RUF012

        def on_train_batch_end(self, *args: Any) -> None:
            self.copied[:] = [copy.deepcopy(self.layer)]

    make_trainer(profiled(tmp_path), tmp_path).fit(Copies(), loader(5))
    assert Copies.copied[0](torch.ones(1, 2)).shape == (1, 1)


# When a run ends otherwise than planned


@pytest.mark.parametrize("batches", [3, 4])
def test_a_run_that_ends_inside_a_recording_keeps_what_there_is(batches: int, tmp_path: Path) -> None:
    profiler = profiled(tmp_path)
    make_trainer(profiler, tmp_path).fit(Line(), loader(batches))
    assert ranges(profiler.trace_paths[0])[TRAINING_STEP] == batches - 2
    assert TRAINING_STEP[:40] in profiler.summary()


@pytest.mark.parametrize("batches", [1, 2])
def test_a_run_that_ends_before_a_recording_says_so_and_what_to_do(
    batches: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiler = profiled(None)
    make_trainer(profiler, tmp_path).fit(Line(), loader(batches))
    assert profiler.trace_paths == []
    assert f"nothing was recorded. The run ended after {batches} batches" in capsys.readouterr().out
    assert "pass schedule=None" in profiler.summary()


def test_a_run_that_raises_keeps_its_recording_and_leaves_nothing_behind(tmp_path: Path) -> None:
    class Fails(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            raise RuntimeError("planted")

    class Model(Line):
        def __init__(self) -> None:
            super().__init__()
            self.fails = Fails()

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return self.fails(batch) if batch_idx == 3 else super().training_step(batch, batch_idx)

    profiler, module = profiled(tmp_path), Model()
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer(profiler, tmp_path).fit(module, loader(8))
    assert ranges(profiler.trace_paths[0])[TRAINING_STEP] == 2
    assert hooks_of(module) == 0
    assert not torch._C._autograd._profiler_enabled()
    assert (tmp_path / "fit-profile.txt").read_text(encoding="utf-8").startswith("PyTorchProfiler: the recording in ")


def test_a_second_fit_is_recorded_anew_in_a_trace_of_its_own(tmp_path: Path) -> None:
    profiler = profiled(tmp_path)
    for _ in range(2):
        make_trainer(profiler, tmp_path).fit(Line(), loader(5))
    assert [path.name for path in profiler.trace_paths] == [
        "fit-profile-1.pt.trace.json",
        "fit-profile-2.pt.trace.json",
    ]
    assert [ranges(path)[TRAINING_STEP] for path in profiler.trace_paths] == [3, 3]
    assert "the recording in 5 batches" in profiler.summary()


def test_another_profiler_of_torch_that_is_recording_is_an_error(tmp_path: Path) -> None:
    profiler = profiled(tmp_path)
    with (
        torch.profiler.profile(activities=CPU),
        pytest.raises(MisconfigurationError, match="another profiler of torch is recording"),
    ):
        make_trainer(profiler, tmp_path).fit(Line(), loader(5))


# What is written


def test_without_a_folder_the_trace_goes_to_the_logs_and_the_table_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer("pytorch", tmp_path).fit(Line(), loader(5))
    assert [path.name for path in tmp_path.iterdir()] == ["fit-profile-1.pt.trace.json"]
    assert "PyTorchProfiler: the recording in 5 batches" in capsys.readouterr().out


def test_a_handler_of_ones_own_takes_the_place_of_the_trace(tmp_path: Path) -> None:
    ready: list[int] = []
    profiler = profiled(tmp_path, on_trace_ready=lambda profile: ready.append(profile.step_num))
    make_trainer(profiler, tmp_path).fit(Line(), loader(8))
    assert ready == [5]
    assert list(tmp_path.glob("*.json")) == []


def test_no_trace_is_written_with_export_to_chrome_off(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, export_to_chrome=False)
    make_trainer(profiler, tmp_path).fit(Line(), loader(5))
    assert [path.name for path in tmp_path.iterdir()] == ["fit-profile.txt"]


def test_memory_shapes_and_the_settings_of_the_table_are_in_the_summary(tmp_path: Path) -> None:
    profiler = profiled(
        tmp_path,
        profile_memory=True,
        group_by_input_shapes=True,
        row_limit=-1,
        sort_by_key="self_cpu_memory_usage",
        table_kwargs={"max_name_column_width": 200},
    )
    make_trainer(profiler, tmp_path).fit(Line(), loader(5))
    lines = profiler.summary().splitlines()
    assert "Self CPU Mem" in lines[2]
    assert "Input Shapes" in lines[2]
    assert any(line.split()[0] == "aten::linear" and "[[2, 2], [1, 2], [1]]" in line for line in lines[4:-2])


def test_the_table_has_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    profiler = profiled(tmp_path, row_limit=4)
    make_trainer(profiler, tmp_path).fit(Line(), loader(5))
    rules = [index for index, line in enumerate(profiler.summary().splitlines()) if line.startswith("----")]
    assert rules[2] - rules[1] - 1 == 4


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"profil_memory": True},
            r"profil_memory=\.\.\.\): torch\.profiler\.profile takes .*Did you mean profile_m",
        ),
        ({"use_cuda": True}, r"use_cuda=\.\.\.\): torch\.profiler\.profile takes activities"),
        ({"schedule": 3}, r"schedule=3\): it must be a function, or None"),
        (
            {"schedule": lambda step: "record"},
            r"it returned 'record' for step 0, and a torch\.profiler\.Profile",
        ),
        ({"on_trace_ready": "trace.json"}, r"on_trace_ready='trace\.json'\): it must be a function, or None"),
        ({"activities": []}, r"activities=\[\]\): it must be a list of torch\.profiler\.ProfilerActivity"),
        ({"activities": ["cpu"]}, r"activities=\['cpu'\]\): it must be a list of"),
        ({"activities": 1}, r"activities=1\): it must be a list of"),
        ({"sort_by_key": "speed"}, r"sort_by_key='speed'\): it must be one of count, cpu_time, cpu_time_total"),
        ({"row_limit": 0}, r"row_limit=0\): it must be a number of rows, or -1"),
        ({"row_limit": 2.0}, r"row_limit=2\.0\): it must be a number of rows"),
        ({"table_kwargs": {"rows": 3}}, r"'rows' is not known there\. Known are max_src_column_width"),
        (
            {"table_kwargs": {"row_limit": 3}},
            r"'row_limit' is not known there\. Use the profiler's sort_by_key and r",
        ),
        ({"profile_memory": "yes"}, r"profile_memory='yes'\): it must be True or False"),
        ({"record_module_names": 1}, r"record_module_names=1\): it must be True or False"),
        ({"group_by_input_shapes": True, "record_shapes": False}, r"record_shapes=False\): shapes have to be recorded"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        PyTorchProfiler(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"emit_nvtx": True}, "NVTX ranges need CUDA, and there is no CUDA device here"),
        ({"activities": [ProfilerActivity.CUDA]}, r"there is no CUDA device here\. Leave ProfilerActivity\.CUDA out"),
    ],
)
def test_cuda_where_there_is_none_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        PyTorchProfiler(**arguments)


def test_stopping_what_is_not_running_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(MisconfigurationError, match=r"PyTorchProfiler\.stop\('a'\): no action of that name is running"):
        PyTorchProfiler().stop("a")


def test_a_profiler_that_was_in_no_run_has_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    profiler = PyTorchProfiler()
    with profiler.profile("a"):
        pass
    profiler.describe()
    assert (profiler.summary(), capsys.readouterr().out) == ("", "")
