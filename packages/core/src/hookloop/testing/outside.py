"""What lies outside of a run and is to be there again after it: settings of the process, files, threads, the module."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

_SECONDS_TO_END = 2.0


def _signals() -> dict[str, Any]:
    return {f"the handler of {signal.Signals(one).name}": signal.getsignal(one) for one in _TOLD if one in _VALID}


_VALID = signal.valid_signals()
_TOLD = [one for one in signal.Signals if one.name not in ("SIGKILL", "SIGSTOP")]

# Name, how it is read, how it is set.
_SETTINGS: tuple[tuple[str, Callable[[], Any], Callable[[Any], Any]], ...] = (
    ("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    ("torch.is_grad_enabled()", torch.is_grad_enabled, torch.set_grad_enabled),
    (
        "torch.are_deterministic_algorithms_enabled()",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    ("torch.is_anomaly_enabled()", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    ("torch's matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    ("torch.get_num_threads()", torch.get_num_threads, torch.set_num_threads),
    *(
        (
            f"torch.backends.cudnn.{name}",
            partial(getattr, torch.backends.cudnn, name),
            partial(setattr, torch.backends.cudnn, name),
        )
        for name in ("benchmark", "deterministic", "enabled")
    ),
    *(
        (f"sys.{name}", partial(getattr, sys, name), partial(setattr, sys, name))
        for name in ("stdout", "stderr", "excepthook", "displayhook")
    ),
    ("sys.getprofile()", sys.getprofile, sys.setprofile),
    ("sys.gettrace()", sys.gettrace, sys.settrace),
    ("threading.excepthook", partial(getattr, threading, "excepthook"), partial(setattr, threading, "excepthook")),
    ("gc.isenabled()", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    ("the working directory", os.getcwd, os.chdir),
)


class Outside:
    """What is outside of a run at one moment."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {name: read() for name, read, _ in _SETTINGS}
        self.environment = dict(os.environ)
        self.log_handlers = list(logging.getLogger().handlers)
        self.handlers = _signals()
        self.threads = set(threading.enumerate())
        self.files = _open_files()

    def missing(self) -> list[str]:
        """What is not as it was, one sentence each."""
        found = [
            f"{name} was {before!r} and is {now!r}"
            for name, before, now in (
                *((name, self.settings[name], read()) for name, read, _ in _SETTINGS),
                *((name, self.handlers[name], now) for name, now in _signals().items()),
            )
            if before is not now and before != now
        ]
        found += [
            f"the environment variable {name} was {self.environment.get(name)!r} and is {os.environ.get(name)!r}"
            for name in sorted({*self.environment, *os.environ})
            if self.environment.get(name) != os.environ.get(name)
        ]
        if self.log_handlers != logging.getLogger().handlers:
            found.append(f"the root logger's handlers were {self.log_handlers} and are {logging.getLogger().handlers}")
        found += [f"the thread {one.name} still runs" for one in _lasting(set(threading.enumerate()) - self.threads)]
        if _open_files().items() - self.files.items():
            gc.collect()  # what nobody has a name for is closed by now, or by this
            found += [f"{target} is still open" for _, target in sorted(_open_files().items() - self.files.items())]
        return found

    def put_back(self) -> None:
        """Undo what can be undone, so that one who leaves things behind does not spoil what runs next."""
        for name, read, write in _SETTINGS:
            if read() is not self.settings[name]:
                write(self.settings[name])
        for name in [name for name in os.environ if name not in self.environment]:
            del os.environ[name]
        os.environ.update(self.environment)
        logging.getLogger().handlers[:] = self.log_handlers
        if threading.current_thread() is threading.main_thread():
            now = _signals()
            for name, handler in self.handlers.items():
                if handler is not None and now[name] is not handler:
                    signal.signal(signal.Signals[name.split()[-1]], handler)


@contextmanager
def kept_outside() -> Iterator[Outside]:
    """What happens inside leaves the settings of the process as they were."""
    outside = Outside()
    try:
        yield outside
    finally:
        outside.put_back()


def marks_of(module: nn.Module) -> dict[str, Any]:
    """What a module is marked with beside its numbers: which parameters learn, and which parts are in train mode."""
    marks = {f"{name}.requires_grad": one.requires_grad for name, one in module.named_parameters()}
    return marks | {f"{name or 'module'}.training": part.training for name, part in module.named_modules()}


def hooks_of(module: nn.Module) -> dict[str, Any]:
    """How many of torch's hooks the parts of a module have."""
    counts = {}
    for name, part in module.named_modules():
        every = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        counts[f"{name or 'module'}.hooks"] = sum(map(len, every))
    return counts


def changed_marks(before: Mapping[str, Any], now: Mapping[str, Any], lasting: Sequence[str] = ()) -> list[str]:
    """Which marks are others than before, one sentence each, without those whose names match a pattern of `lasting`."""
    names = [
        name
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and not any(fnmatchcase(name, pattern) for pattern in lasting)
    ]
    return [f"{name} was {before.get(name)} and is {now.get(name)}" for name in names]


def _lasting(threads: set[threading.Thread]) -> list[threading.Thread]:
    for one in threads:
        one.join(_SECONDS_TO_END)  # asked to end, it may not have got there yet
    return sorted((one for one in threads if one.is_alive()), key=lambda one: one.name)


def _open_files() -> dict[int, str]:
    """What is open, by file descriptor; empty where the system does not tell."""
    found: dict[int, str] = {}
    folder = Path("/proc/self/fd")
    if folder.is_dir():
        for link in folder.iterdir():
            try:
                found[int(link.name)] = str(link.readlink())
            except OSError:
                continue  # it was the one that listed them
    return {number: target for number, target in found.items() if not target.startswith("/proc/")}
