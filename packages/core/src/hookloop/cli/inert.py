"""The structure of a pickle without anything of what it names: no import, no code of anybody, no weights.

torch.load imports classes by name, or refuses a file that has one it does not know. Whoever wants to see what is in a
file needs neither: here a class is a name, an object is its class's name and what it was made from, and a tensor is its
shape and dtype.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}
_BYTES = {"bool": 1, "complex32": 4, "complex64": 8, "complex128": 16}
_BYTES |= {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_BYTES |= {f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)}


@dataclass(frozen=True)
class Storage:
    """Where the numbers of tensors are.

    Attributes:
        key: the name of its record in the file.
        dtype: of its numbers, "float32"; "untyped" where each tensor has its own.
        count: how many numbers; how many bytes if it is untyped.
        device: what it was saved from: "cpu", "cuda:0".
    """

    key: str
    dtype: str
    count: int
    device: str

    @property
    def bytes(self) -> int | None:
        """How long its record is, in bytes; None for numbers of a kind that is not known here."""
        return (
            self.count if self.dtype == "untyped" else None if (one := width(self.dtype)) is None else self.count * one
        )


@dataclass(frozen=True)
class Tensor:
    """A tensor without its numbers.

    Attributes:
        shape: the lengths of its dimensions.
        dtype: "float32".
        storage: where its numbers are; None for those without any: of the device meta, or sparse.
        offset: of its first number in the storage.
    """

    shape: tuple[int, ...]
    dtype: str
    storage: Storage | None
    offset: int = 0

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class Unknown:
    """An object of a class that is not looked at.

    Attributes:
        kind: the class's dotted name.
        arguments: what it was made from.
        state: what it was given afterwards; None if nothing.
        items: what was put into it: the pairs of a mapping, the elements of a list.
    """

    kind = ""

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Unknown":
        made = super().__new__(cls)
        made.arguments = (*arguments, *keywords.values())
        made.state = None
        made.items = []
        return made

    arguments: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Everything is done when it is made."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        """As a list that is being filled."""
        self.items.append(item)

    add = append

    def extend(self, items: Iterable[Any]) -> None:
        """As a list that is being filled."""
        self.items.extend(items)

    @property
    def is_mapping(self) -> bool:
        """Whether pairs were put into it."""
        return bool(self.items) and all(isinstance(item, tuple) and len(item) == 2 for item in self.items)


class Structure(pickle.Unpickler):
    """Reads one pickle from a file; what comes out holds plain values and the classes of this module.

    Args:
        file: open for reading, at the pickle's beginning.

    Attributes:
        storages: every record that it names, by key.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; nothing is imported."""
        dotted = f"{module}.{name}"
        if dotted in _KNOWN:
            return _KNOWN[dotted]
        if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
            return _STORAGES.get(name, "untyped")
        if module == "torch" and (name in _BYTES or name.startswith("float8")):
            return name
        return type(name, (Unknown,), {"kind": dotted})

    def persistent_load(self, saved: Any) -> Any:
        """What stands for a record of the file."""
        if saved[0] == "module":  # a class with its source, in files of the former format
            return saved[1]
        kind, dtype, key, device, count, *_ = saved
        if kind != "storage" or not isinstance(dtype, str) or not isinstance(count, int):
            raise pickle.UnpicklingError(f"a record of kind {kind!r}")
        storage = Storage(str(key), dtype, count, str(device))
        return self.storages.setdefault(storage.key, storage)


def width(dtype: str) -> int | None:
    """Bytes of one number; None for a dtype that is not known here."""
    return 1 if dtype.startswith("float8") else _BYTES.get(dtype)


def _tensor(storage: Any, offset: int, shape: Any, *_: Any) -> Tensor:
    return Tensor(tuple(shape), storage.dtype, storage, offset)


def _tensor_of_dtype(
    storage: Any, offset: int, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: str, *_: Any
) -> Tensor:
    return Tensor(tuple(shape), dtype, storage, offset)


def _of_meta(dtype: Any, shape: Any, *_: Any) -> Tensor:
    return Tensor(tuple(shape), str(dtype), None)


def _first(value: Any, *_: Any) -> Any:
    return value


def _of_a_subclass(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    return function(*arguments) if function in _TENSORS else Unknown(kind, *arguments)


def _bytes(text: Any = "", encoding: Any = "latin1", *_: Any) -> bytes:
    return text.encode("latin1") if isinstance(text, str) else bytes(text) if isinstance(text, bytes) else b""


def _dict(*arguments: Any) -> dict[Any, Any]:
    given = arguments[-1] if arguments else None
    return dict(given) if isinstance(given, dict) else {}


def _device(kind: Any = "", index: Any = None) -> str:
    return str(kind) if index is None else f"{kind}:{index}"


_TENSORS: tuple[Callable[..., Any], ...] = (_tensor, _tensor_of_dtype, _of_meta, _first)
_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": _dict,
    "collections.defaultdict": _dict,
    "_codecs.encode": _bytes,
    "torch.Size": tuple,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_meta_tensor_no_storage": _of_meta,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_a_subclass,
    "torch.serialization._get_layout": _device,
}
for _module in ("builtins", "__builtin__"):
    _KNOWN |= {f"{_module}.{_one.__name__}": _one for _one in (set, frozenset, complex, tuple, list)}
    _KNOWN |= {f"{_module}.dict": _dict, f"{_module}.bytes": _bytes, f"{_module}.bytearray": _bytes}
