"""Tensors of a file that torch.save() wrote, without unpickling it.

Such a file is a zip archive: `data.pkl` says which tensors there are, `data/N` holds their numbers. The pickle is read
here as what it is, a list of instructions (pickletools takes them apart and runs nothing), of which only those are
understood that lay out dictionaries, numbers and tensors. A file that asks for anything else to be called is refused,
so that a policy from a stranger can be looked at without running what the stranger wrote.
Source: PyTorch's notes on serialization semantics; Python's Lib/pickletools.py.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

STORAGES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16, "LongStorage": np.int64,
    "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip
"""torch's name of a storage -> what its numbers are."""
_MARK = object()
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


LARGEST = 1 << 30
"""Bytes that a file may unfold to; a policy has a thousandth of it."""
DAMAGED = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError,  # a pickle that lies
    zlib.error, RuntimeError, EOFError,  # an archive that does; NotImplementedError is a RuntimeError
)  # fmt: skip


class NoTensors(Exception):
    """The file holds no tensors, or more than tensors; the words say what."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class that the file names; it is never looked up."""

    module: str
    name: str


def tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Name -> tensor of a saved state_dict. Raises NoTensors."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        if (size := sum(member.file_size for member in archive.infolist())) > LARGEST:
            raise NoTensors(f"it unfolds to {size / 2**30:.1f} GiB, and at most {LARGEST / 2**30:g} are read")
        script = next(n for n in archive.namelist() if n.split("/")[-1] == "data.pkl")
        found = _Reader(archive, script.removesuffix("data.pkl")).read(archive.read(script))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise NoTensors("it is no file of torch.save() since PyTorch 1.6") from error
    except DAMAGED as error:
        raise NoTensors(f"it is damaged ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(v, np.ndarray) for v in found.values()):
        raise NoTensors("it holds something else than tensors by name")
    return {str(name): value for name, value in found.items()}


class _Reader:
    """A pickle's stack and memory, in which nothing is called but what stands here."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self._archive, self._prefix = archive, prefix
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def read(self, script: bytes) -> Any:
        """What the pickle describes."""
        for opcode, argument, _ in pickletools.genops(script):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise NoTensors("it ends too early")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in _TUPLES:
            stack.append(tuple(stack.pop() for _ in range(_TUPLES[name]))[::-1])
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memory[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memory[len(self._memory)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memory[argument])
        else:
            self._act(name, argument)

    def _act(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            stack.append(_Name(*argument.split(" ")))
        elif name == "STACK_GLOBAL":
            last = stack.pop()
            stack.append(_Name(stack.pop(), last))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif name == "SETITEM":
            value = stack.pop()
            key = stack.pop()
            stack[-1][key] = value
        elif name == "SETITEMS":
            items = self._since_mark()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BUILD":
            stack.pop()  # attributes of the dictionary: the versions of its modules
        else:
            raise NoTensors(f"it holds something else than tensors (instruction {name})")

    def _since_mark(self) -> list[Any]:
        at = max(i for i, item in enumerate(self._stack) if item is _MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _storage(self, told: Any) -> npt.NDArray[Any]:
        """The numbers of ("storage", type, file, device, count)."""
        _, kind, name, _, count = told
        if kind.module != "torch" or kind.name not in STORAGES:
            raise NoTensors(f"it stores numbers as {kind.module}.{kind.name}, which is not known here")
        return np.frombuffer(self._archive.read(f"{self._prefix}data/{name}"), STORAGES[kind.name])[:count]


def _called(what: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call that a state_dict needs would give; NoTensors for any other."""
    if what == _Name("collections", "OrderedDict") and not arguments:
        return {}
    if what == _Name("torch._utils", "_rebuild_tensor_v2"):
        return _tensor(*arguments[:4])
    named = f"{what.module}.{what.name}" if isinstance(what, _Name) else repr(what)
    raise NoTensors(f"it wants {named} to be called; only tensors are read")


def _tensor(storage: npt.NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> npt.NDArray[Any]:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if math.prod(size) else 0
    if min((offset, *size, *stride)) < 0 or last > max(len(storage) - 1, 0) or math.prod(size) > len(storage):
        raise NoTensors("a tensor is larger than its numbers")
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, [s * storage.itemsize for s in stride])
    return view.copy()
