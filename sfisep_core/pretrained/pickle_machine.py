"""Turn the opcodes of a torch pickle into plain data, without running what they ask for.

A pickle is a program, and `pickle.Unpickler` runs it: beyond the names it imports, it calls what
it built (`__setstate__` of a live tensor resizes storages), looks extension codes up in a
process-wide cache, sizes its memo by the file's word, and overflows the C stack when it hashes a
deeply nested tuple. Overriding `find_class` leaves all of these open. Here the opcodes, decoded
by `pickletools.genops`, drive a small stack machine of our own. It makes containers, numbers,
strings and tensors; every name in the file stays a `Placeholder`, and no name is ever imported.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import Any, NoReturn

import torch

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}
# Opcodes that push the number, string or bytes written after them, and nothing else.
_LITERALS = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before and opcode.stack_after
    if opcode.stack_after[0].obtype is not object
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLE_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# torch has no tensors of more dimensions.
_MAX_DIMENSIONS = 64


@dataclass(slots=True, eq=False, repr=False)
class Placeholder:
    """Stand for a name in a pickle, or for what calling it would have made, and do nothing.

    All that the file says is kept as data in these fields; none of it becomes an attribute.

    Args:
        module: Module of the name as the file gives it, never imported.
        name: Qualified name in that module.
        args: Positional arguments of the call; empty for a name that is not called.
        kwargs: Keyword arguments of the call.
        state: What the file would have given to `__setstate__`; None when nothing.
        items: Values appended or added to the object.
        entries: Key-value pairs set on the object.
    """

    module: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[Any, Any] = field(default_factory=dict)
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Name what this stands for, fit to print; the contents may be huge or cyclic."""
        text = f"<{self.module}.{self.name}>"[:120]
        return "".join(letter if letter.isprintable() else "?" for letter in text)


class PickleMachine:
    """Build the tree of one torch pickle.

    Args:
        read_storage: Give the raw little-endian bytes of the storage with a key of the file.
        max_tensor_bytes: Bytes that all tensors together may take when each is copied.
    """

    def __init__(self, read_storage: Callable[[str], bytes], max_tensor_bytes: int) -> None:
        """Start with an empty stack."""
        self._read_storage = read_storage
        self._bytes_left = max_tensor_bytes
        self._storages: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Run a pickle up to its STOP, once for each machine.

        Args:
            data: The pickle, of protocol 0 to 5.

        Returns:
            A tree of dict, list, tuple, set, scalars, CPU tensors, and a `Placeholder` for the
            rest.

        Raises:
            Exception: Of any type, where the pickle is damaged or asks for what is not allowed.
        """
        for opcode, argument, position in pickletools.genops(data):
            try:
                self._step(opcode.name, argument)
            except (IndexError, KeyError) as error:
                msg = f"opcode {opcode.name} at byte {position} lacks an operand: {error}"
                raise UnpicklingError(msg) from error
        return self._stack[-1]

    def _step(self, name: str, argument: Any) -> None:
        pop, push = self._stack.pop, self._stack.append
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                push(argument)
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case _ if name in _EMPTY:
                push(_EMPTY[name]())
            case _ if name in _TUPLE_LENGTHS:
                push(tuple([pop() for _ in range(_TUPLE_LENGTHS[name])][::-1]))
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "MARK":
                self._outer.append(self._stack)
                self._stack = []
            case "POP" if self._stack:
                pop()
            case "POP" | "POP_MARK":
                self._since_mark()
            case "DUP":
                push(self._stack[-1])
            case _ if name in _COLLECTED:
                values = self._since_mark()
                self._stack.append(_COLLECTED[name](values))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                self._add(name, [pop()] if name == "APPEND" else self._since_mark())
            case "SETITEM" | "SETITEMS":
                self._set(name, [pop(), pop()][::-1] if name == "SETITEM" else self._since_mark())
            case "BUILD":
                self._build(pop())
            case "GLOBAL":
                push(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                push(_global(*[pop(), pop()][::-1]))
            case "REDUCE" | "NEWOBJ":
                arguments, callee = pop(), pop()
                push(self._called(callee, arguments, {}))
            case "NEWOBJ_EX":
                keywords, arguments, callee = pop(), pop(), pop()
                push(self._called(callee, arguments, keywords))
            case "INST" | "OBJ":
                values = self._since_mark()
                callee = values.pop(0) if name == "OBJ" else _global(*argument.split(" ", 1))
                self._stack.append(self._called(callee, tuple(values), {}))
            case "BINPERSID":
                push(self._storage(pop()))
            case _:
                _refuse(name, "data; torch.save does not write it")

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _add(self, action: str, values: list[Any]) -> None:
        match self._stack[-1]:
            case list(target) | Placeholder(items=target):
                target.extend(values)
            case set(target):
                target.update(map(_hashable, values))
            case target:
                _refuse(action, describe(target))

    def _set(self, action: str, values: list[Any]) -> None:
        match self._stack[-1]:
            case dict(target) | Placeholder(entries=target):
                target.update(_pairs(values))
            case target:
                _refuse(action, describe(target))

    def _build(self, state: Any) -> None:
        match self._stack[-1]:
            case Placeholder() as target:
                target.state = state
            case dict():
                pass  # attributes of an OrderedDict: the version numbers in a state_dict
            case target:
                _refuse("BUILD", describe(target))

    def _called(self, callee: Any, arguments: Any, keywords: Any) -> Any:
        if not isinstance(callee, Placeholder):
            _refuse("a call", describe(callee))
        if not isinstance(arguments, tuple) or not isinstance(keywords, dict):
            _refuse("a call", f"{callee} with {describe(arguments)} and {describe(keywords)}")
        match callee.module, callee.name:
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor(*arguments[:4])
            case "torch._utils", "_rebuild_parameter":
                return arguments[0]
            case "collections", "OrderedDict" | "defaultdict":
                # Items follow in SETITEMS; the argument is a factory, of no use to plain data.
                return {}
        return Placeholder(callee.module, callee.name, arguments, keywords)

    def _storage(self, identity: Any) -> torch.Tensor:
        match identity:
            case ("storage", Placeholder(module="torch", name=kind), str(key), _, int(size)):
                pass
            case _:
                _refuse("BINPERSID", f"{describe(identity)}, not to the name of a torch storage")
        if kind not in _DTYPES:
            _refuse("BINPERSID", f"a torch.{kind}, not to one of {sorted(_DTYPES)}")
        dtype = _DTYPES[kind]
        if (key, dtype) not in self._storages:
            data = bytearray(self._read_storage(key))
            # torch.frombuffer refuses an empty buffer.
            empty = torch.empty(0, dtype=dtype)
            self._storages[key, dtype] = torch.frombuffer(data, dtype=dtype) if data else empty
        elements = self._storages[key, dtype]
        if elements.nbytes != size * dtype.itemsize:
            msg = f"storage {key!r} has {elements.nbytes} bytes, expected {size} of {dtype}"
            raise UnpicklingError(msg)
        return elements

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> torch.Tensor:
        if (
            not isinstance(storage, torch.Tensor)
            or not (isinstance(shape, tuple) and isinstance(strides, tuple))
            or not len(shape) == len(strides) <= _MAX_DIMENSIONS
            or any(type(number) is not int or number < 0 for number in (offset, *shape, *strides))
        ):
            msg = "a tensor's storage, shape, strides or offset is of another kind"
            raise UnpicklingError(msg)
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=storage.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        self._bytes_left -= count * storage.itemsize
        # The count is bounded too: with strides of 0 a few bytes would make a tensor of any size,
        # which becomes real when it is copied.
        if last >= storage.numel() or count > storage.numel() or self._bytes_left < 0:
            msg = (
                f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit "
                f"in its storage of {storage.numel()} elements, or shares its bytes too often"
            )
            raise UnpicklingError(msg)
        return storage.as_strided(shape, strides, offset)


def describe(value: object) -> str:
    """Name the type of a value from a file, or what a placeholder stands for.

    Args:
        value: Any value.

    Returns:
        The name in angle brackets, never the contents.
    """
    return repr(value) if isinstance(value, Placeholder) else f"<{type(value).__name__}>"


def _global(module: object, name: object) -> Placeholder:
    if not isinstance(module, str) or not isinstance(name, str):
        _refuse("a look-up", f"{describe(name)} in {describe(module)}, not to strings")
    return Placeholder(module, name)


def _hashable(value: Any) -> Any:
    # Not tuples: hashing nested ones recurses in C without a limit.
    if not isinstance(value, str | bytes | int | float | Placeholder | None):
        _refuse("hashing", f"{describe(value)}, not to a number or string")
    return value


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_hashable, flat[::2]), flat[1::2], strict=True))


_COLLECTED: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "DICT": _pairs,
    "FROZENSET": lambda values: frozenset(map(_hashable, values)),
}


def _refuse(action: str, target: str) -> NoReturn:
    msg = f"its pickle applies {action} to {target}"
    raise UnpicklingError(msg)
