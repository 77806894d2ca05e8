"""What torch's profiler sees of a run: operators, memory, and a trace to look at."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import emit_nvtx as nvtx_ranges
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerAction, ProfilerActivity

from hookloop.errors import MisconfigurationError
from hookloop.profilers.profiler import Profiler, make_folder_of

FETCHES = (
    "[_TrainingEpochLoop].train_dataloader_next",
    "[_EvaluationLoop].val_next",
    "[_EvaluationLoop].test_next",
    "[_PredictionLoop].predict_next",
)
"""A batch begins when it is fetched, and ends when the next one is."""

SORT_KEYS = (
    "count",
    *(
        form.format(kind)
        for kind in ("cpu", "cuda", "device")
        for form in ("{}_time", "{}_time_total", "self_{}_time_total", "{}_memory_usage", "self_{}_memory_usage")
    ),
)
"""Columns by which the table can be sorted; "device" is CUDA, or another accelerator of torch."""

_OWN_ARGUMENTS = ("self", "use_cuda")
_SWITCHES = ("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules", "acc_events")


class PyTorchProfiler(Profiler):
    """Records a run with `torch.profiler`.

    Every action is a range in the recording, by its name, and so is every call of a submodule, as
    "[module]torch.nn.modules.linear.Linear: layer". Each batch, of training, validation, test and prediction, is one of
    the profiler's steps; those of the sanity check are not counted. By default the first batch of a run is left out,
    the second warms the profiler up, and the three after that are recorded, once.

    When a recording is complete, or the run ends inside one (by an exception too), a trace is written as
    `<stage>-<filename>-<number>.pt.trace.json`, into dirpath or the run's log_dir. Perfetto
    (ui.perfetto.dev), chrome://tracing and TensorBoard show it. The summary is a table of the last recording.

    Args:
        dirpath: see `Profiler`.
        filename: see `Profiler`.
        group_by_input_shapes: a row of the table for each operator and shape; turns record_shapes on.
        emit_nvtx: mark the ranges for NVIDIA's tools (`nsys profile`), and record nothing; needs CUDA.
        export_to_chrome: whether to write traces.
        row_limit: rows of the table; -1 is no limit.
        sort_by_key: column by which the table is sorted, one of `SORT_KEYS`; None: the total time, of CUDA where it is
            recorded, else of the CPU.
        record_module_names: whether calls of submodules are ranges.
        table_kwargs: further arguments of the table (`torch.autograd.profiler_util.EventList.table`), such as
            max_name_column_width.
        **profiler_kwargs: arguments of `torch.profiler.profile`: activities, schedule (None records the whole run),
            on_trace_ready (is called in place of writing a trace), record_shapes, profile_memory, with_stack,
            with_flops, ...

    Raises:
        MisconfigurationError: an argument is unknown or out of range, or asks for CUDA where there is none.

    Attributes:
        trace_paths: the traces that were written.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: Mapping[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath, filename)
        _check_switches(
            group_by_input_shapes=group_by_input_shapes,
            emit_nvtx=emit_nvtx,
            export_to_chrome=export_to_chrome,
            record_module_names=record_module_names,
            **{name: profiler_kwargs[name] for name in _SWITCHES if name in profiler_kwargs},
        )
        if isinstance(row_limit, bool) or not isinstance(row_limit, int) or (row_limit < 1 and row_limit != -1):
            raise _wrong(f"row_limit={row_limit!r}", "it must be a number of rows, or -1 for all of them.")
        self._kwargs = _checked_kwargs(profiler_kwargs, group_by_input_shapes)
        self._table_kwargs = _checked_table_kwargs(table_kwargs)
        activities = self._kwargs["activities"]
        if sort_by_key is None:
            sort_by_key = f"{'cuda' if ProfilerActivity.CUDA in activities else 'cpu'}_time_total"
        if sort_by_key not in SORT_KEYS:
            raise _wrong(f"sort_by_key={sort_by_key!r}", f"it must be one of {', '.join(SORT_KEYS)}.")
        if emit_nvtx and not torch.cuda.is_available():
            raise _wrong("emit_nvtx=True", "NVTX ranges need CUDA, and there is no CUDA device here. Leave it out.")
        if emit_nvtx and (others := [name for name in profiler_kwargs if name != "record_shapes"]):
            raise _wrong("emit_nvtx=True", f"it records nothing, so {', '.join(others)} would be ignored. Drop one.")
        self._sort_by_key = sort_by_key
        self._row_limit = row_limit
        self._group_by_input_shapes = group_by_input_shapes
        self._emit_nvtx = emit_nvtx
        self._export_to_chrome = export_to_chrome
        self._record_module_names = record_module_names
        self.trace_paths: list[Path] = []
        self._profile: torch.profiler.profile | None = None
        self._nvtx: ExitStack | None = None
        self._table: str | None = None
        self._batches: int | None = None
        self._recorded = 0
        self._sanity_checking = False
        self._module: nn.Module | None = None
        self._hooks: list[Any] = []
        self._open: dict[int, list[tuple[str, record_function]]] = {}

    # a run

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Begin anew: the schedule starts at its first step.

        Raises:
            MisconfigurationError: another profiler of torch is recording.
        """
        super().setup(stage, local_rank, log_dir)
        self._end()
        if torch._C._autograd._profiler_enabled():
            raise MisconfigurationError(
                "PyTorchProfiler: another profiler of torch is recording, and it can be one at a time. End that one "
                "before this run, or leave out profiler=."
            )
        self._table, self._batches, self._recorded, self._sanity_checking = None, 0, 0, False
        if self._emit_nvtx:
            self._nvtx = ExitStack()
            self._nvtx.enter_context(torch.cuda.profiler.profile())
            self._nvtx.enter_context(nvtx_ranges(record_shapes=self._kwargs["record_shapes"]))
            return
        self._profile = torch.profiler.profile(**{**self._kwargs, "on_trace_ready": self._keep})
        self._profile.__enter__()

    def watch(self, module: nn.Module) -> None:
        """Record calls of the submodules that this module has at its first step."""
        self._module = module

    def describe(self) -> None:
        """End the recording, and write or print the table."""
        self._end()
        super().describe()

    def teardown(self, stage: str) -> None:
        """End the recording, and take the forward hooks from the module."""
        self._end()

    def _end(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._module = [], None
        for _, recording in reversed(self._open.pop(get_ident(), [])):
            recording.__exit__(None, None, None)
        nvtx, self._nvtx = self._nvtx, None
        if nvtx is not None:
            nvtx.close()
        profile, self._profile = self._profile, None
        if profile is not None:
            profile.__exit__(None, None, None)

    def _keep(self, profile: torch.profiler.profile) -> None:
        """A recording is complete."""
        self._recorded += 1
        averages = profile.key_averages(group_by_input_shape=self._group_by_input_shapes)
        if len(averages):
            self._table = averages.table(sort_by=self._sort_by_key, row_limit=self._row_limit, **self._table_kwargs)
        if (users := self._kwargs["on_trace_ready"]) is not None:
            users(profile)
        elif self._export_to_chrome:
            path = self._file(".pt.trace.json", str(len(self.trace_paths) + 1))
            make_folder_of(path)
            profile.export_chrome_trace(str(path))
            self.trace_paths.append(path)

    # actions

    def start(self, action_name: str) -> None:
        """Starts a range on this thread; with the fetch of a batch, the profiler's next step begins."""
        if action_name == "run_sanity_check":
            self._sanity_checking = True
        elif action_name in FETCHES and self._batches is not None and not self._sanity_checking:
            if self._batches and self._profile is not None:
                self._step(self._profile)
            self._batches += 1
        elif self._module is not None and action_name.startswith("[Strategy]") and action_name.endswith("_step"):
            # Not before: until now the module may have got other parts.
            module, self._module = self._module, None
            if self._record_module_names:
                self._hooks = record_calls(module)
        self._open.setdefault(get_ident(), []).append((action_name, _recording(action_name)))

    def stop(self, action_name: str) -> None:
        """Stops the range of this name that started last on this thread.

        Raises:
            MisconfigurationError: none is running.
        """
        running = self._open.get(get_ident(), [])
        index = next((index for index in reversed(range(len(running))) if running[index][0] == action_name), None)
        if index is None:
            raise MisconfigurationError(
                f"PyTorchProfiler.stop({action_name!r}): no action of that name is running on this thread. Call "
                f"start({action_name!r}) before it, or use `with profiler.profile({action_name!r}):`, which does both."
            )
        _, recording = running.pop(index)
        recording.__exit__(None, None, None)
        if action_name == "run_sanity_check":
            self._sanity_checking = False

    def _step(self, profile: torch.profiler.profile) -> None:
        # A step is a range too. Ranges that it would cut in two are closed before and opened after it, else what
        # computes the times of ranges from what is inside them gets negative ones.
        running = self._open.get(get_ident(), [])
        for _, recording in reversed(running):
            recording.__exit__(None, None, None)
        profile.step()
        running[:] = [(name, _recording(name)) for name, _ in running]

    # what there is to tell

    def summary(self) -> str:
        """The table of the last recording; why there is none if there is none; empty before a run."""
        if self._emit_nvtx or self._batches is None:
            return ""
        if self._table is not None:
            number = f"the last of {self._recorded} recordings" if self._recorded > 1 else "the recording"
            return f"PyTorchProfiler: {number} in {self._batches} batches\n{self._table.rstrip()}"
        if self._profile is not None:
            return ""
        return (
            f"PyTorchProfiler: nothing was recorded. The run ended after {self._batches} batches, before its schedule "
            "came to record one. Run more batches, or pass schedule=None to record all of a run, or another one: "
            "PyTorchProfiler(schedule=torch.profiler.schedule(wait=0, warmup=0, active=1))."
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy belongs to no run.
        return {**self.__dict__, "_profile": None, "_nvtx": None, "_module": None, "_hooks": [], "_open": {}}


def record_calls(module: nn.Module) -> list[Any]:
    """Make every call of a submodule a range, until the returned handles are removed."""
    handles = []
    for name, part in module.named_modules():
        if name and not isinstance(part, torch.jit.ScriptModule):
            handles += _record_calls_of(part, f"[module]{type(part).__module__}.{type(part).__qualname__}: {name}")
    return handles


def _record_calls_of(part: nn.Module, label: str) -> list[Any]:
    # Functions, which a copy of the module shares, and not objects, which it would copy in the middle of a call.
    running: list[record_function] = []

    def enter(module: nn.Module, arguments: Any) -> None:
        running.append(_recording(label))

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        if running:
            running.pop().__exit__(None, None, None)

    # Always: a call that raises ends, too.
    return [part.register_forward_pre_hook(enter), part.register_forward_hook(leave, always_call=True)]


def _recording(name: str) -> record_function:
    recording = record_function(name)
    recording.__enter__()
    return recording


def _default_schedule() -> Callable[[int], ProfilerAction]:
    return torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=1)


def _checked_kwargs(given: Mapping[str, Any], by_shapes: bool) -> dict[str, Any]:
    known = [name for name in inspect.signature(torch.profiler.profile).parameters if name not in _OWN_ARGUMENTS]
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise _wrong(f"{name}=...", f"torch.profiler.profile takes {', '.join(known)}.{meant}")
    kwargs: dict[str, Any] = {
        "schedule": _default_schedule(),
        "activities": None,
        "on_trace_ready": None,
        "record_shapes": by_shapes,
    }
    kwargs |= given
    if by_shapes and not kwargs["record_shapes"]:
        raise _wrong("group_by_input_shapes=True, record_shapes=False", "shapes have to be recorded. Drop one.")
    for name in ("schedule", "on_trace_ready"):
        if kwargs[name] is not None and not callable(kwargs[name]):
            raise _wrong(f"{name}={kwargs[name]!r}", "it must be a function, or None.")
    if kwargs["schedule"] is not None and not isinstance(first := kwargs["schedule"](0), ProfilerAction):
        raise _wrong(
            f"schedule={kwargs['schedule']!r}",
            f"it returned {first!r} for step 0, and a torch.profiler.ProfilerAction is needed. Make one with "
            "torch.profiler.schedule(wait=..., warmup=..., active=...).",
        )
    kwargs["activities"] = _checked_activities(kwargs["activities"])
    return kwargs


def _checked_activities(given: Iterable[Any] | None) -> list[Any]:
    if given is None:
        return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    activities = list(given) if isinstance(given, Iterable) else []
    if not activities or not all(isinstance(each, ProfilerActivity) for each in activities):
        raise _wrong(
            f"activities={given!r}",
            "it must be a list of torch.profiler.ProfilerActivity, such as [ProfilerActivity.CPU].",
        )
    if ProfilerActivity.CUDA in activities and not torch.cuda.is_available():
        raise _wrong(f"activities={given!r}", "there is no CUDA device here. Leave ProfilerActivity.CUDA out.")
    return activities


def _checked_table_kwargs(given: Mapping[str, Any] | None) -> dict[str, Any]:
    own = ("self", "sort_by", "row_limit")
    known = [name for name in inspect.signature(EventList.table).parameters if name not in own]
    for name in given or {}:
        if name not in known:
            advice = "Use the profiler's sort_by_key and row_limit. " if name in own else ""
            raise _wrong(f"table_kwargs={dict(given or {})!r}", f"{name!r} is not known there. {advice}{_known(known)}")
    return dict(given or {})


def _known(names: Iterable[str]) -> str:
    return f"Known are {', '.join(names)}."


def _check_switches(**given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, bool):
            raise _wrong(f"{name}={value!r}", "it must be True or False.")


def _wrong(given: str, advice: str) -> MisconfigurationError:
    return MisconfigurationError(f"PyTorchProfiler({given}): {advice}")
