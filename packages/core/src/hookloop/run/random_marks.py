"""Random states that are kept at every batch and hardly ever needed: `RandomMarks` keeps them for the price of a look.

Taking the states of Python's and NumPy's generators makes 1,248 numbers of each, which takes 60 µs; looking whether the
memory of a generator has changed takes one. So a state is taken anew where something was drawn since the last time.
"""

import ctypes
import random
import sys
from array import array
from collections.abc import Callable
from operator import methodcaller
from typing import Any, TypeAlias

import torch

from hookloop.random_state import numpy_state

RandomMark: TypeAlias = tuple[Any, ...]
"""The states of all generators at one moment, as they themselves give them; `told` makes of it what is saved."""

_STATE_OF = methodcaller("get_state")


class RandomMarks:
    """Takes the states of the global generators again and again.

    Which generators there are, and whether their memory can be looked at, is found out here; where it cannot, each
    mark takes the whole state.
    """

    def __init__(self) -> None:
        self._python = _python_generator()
        self._python_memory = _python_memory(self._python)
        self._python_seen: bytes | None = None
        self._python_gauss: float | None = None
        self._python_state: Any = None
        self._numpy: Any = None
        self._numpy_now: Callable[[], Any] | None = None
        self._numpy_memory: Any = None
        self._numpy_legacy: Any = None
        self._numpy_seen: bytes | None = None
        self._numpy_state: Any = None

    def take(self) -> RandomMark:
        """The states as they are now. Nothing is copied of a generator from which nothing was drawn."""
        generator, memory = self._python, self._python_memory
        seen = None if memory is None else memory.raw
        if seen is None or seen != self._python_seen or generator.gauss_next is not self._python_gauss:
            self._python_state = random.getstate()
            self._python_seen, self._python_gauss = seen, generator.gauss_next
        if (numpy := sys.modules.get("numpy")) is not None:
            if self._numpy_now is None or self._numpy_now() is not self._numpy:
                self._look_at_numpy(numpy)
            seen = None if self._numpy_memory is None else self._numpy_memory.raw + self._numpy_legacy.raw
            # While there is a normal number that was drawn in advance, the whole state is taken: it is kept elsewhere.
            if seen is None or seen != self._numpy_seen or self._numpy_state[3]:
                self._numpy_state, self._numpy_seen = numpy.random.get_state(), seen
        # Empty without CUDA, and until it is used.
        devices = torch.cuda.default_generators
        cuda = tuple(map(_STATE_OF, devices)) if devices else ()
        return self._python_state, torch.default_generator.get_state(), self._numpy_state, cuda

    def _look_at_numpy(self, numpy: Any) -> None:
        # Somebody may put another one in its place. Versions before 1.24 do not tell: each mark takes the whole state.
        now: Callable[[], Any] = getattr(numpy.random, "get_bit_generator", lambda: None)
        self._numpy_now, self._numpy = now, now()
        self._numpy_memory, self._numpy_state, self._numpy_seen = _numpy_memory(numpy, self._numpy), None, None
        # The object in front of the generator has that number, which set_state may put back alone.
        legacy = numpy.random.get_state.__self__
        self._numpy_legacy = (ctypes.c_char * type(legacy).__basicsize__).from_address(id(legacy))


def told(mark: RandomMark) -> dict[str, Any]:
    """What `hookloop.random_state.random_state` would have said at that moment."""
    python, of_torch, numpy, cuda = mark
    state: dict[str, Any] = {"python": python, "torch": of_torch}
    if numpy is not None:
        state["numpy"] = numpy_state(numpy)
    if cuda:
        state["cuda"] = list(cuda)
    return state


def _python_generator() -> Any:
    return getattr(random.getstate, "__self__", None)  # the one behind random.random() and the like


def _python_memory(generator: Any) -> Any:
    """The bytes of the object behind `random`: of CPython's own, if its state can be found in them, else None."""
    if sys.implementation.name != "cpython" or type(generator) is not random.Random:
        return None
    words = array("I", random.getstate()[1][:-1])
    memory = (ctypes.c_char * random.Random.__base__.__basicsize__).from_address(id(generator))  # type: ignore[union-attr]
    return memory if _follows(memory, words.tobytes(), lambda: random.getstate()[1][-1]) else None


def _numpy_memory(numpy: Any, generator: Any) -> Any:
    """The bytes of NumPy's Mersenne twister, where its interface for C says; None for another generator."""
    if type(generator).__name__ != "MT19937":
        return None
    words = numpy.random.get_state()[1]
    size = words.nbytes + ctypes.sizeof(ctypes.c_int)
    memory = (ctypes.c_char * size).from_address(generator.ctypes.state_address)
    return memory if _follows(memory, words.tobytes(), lambda: numpy.random.get_state()[2]) else None


def _follows(memory: Any, words: bytes, position: Callable[[], int]) -> bool:
    """Whether memory holds a generator's words, and beside them its position among them, which every draw changes."""
    raw = memory.raw
    begin = raw.find(words)
    place = ctypes.sizeof(ctypes.c_int)
    if begin < 0:
        return False
    beside = (raw[max(begin - place, 0) : begin], raw[begin + len(words) : begin + len(words) + place])
    return position().to_bytes(place, sys.byteorder) in beside
