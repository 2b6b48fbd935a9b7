"""Check the opcodes of a pickle as data: its names, and how deeply its values are nested."""

import io
import pickletools
from typing import Any

# Regular files are nested about 10 levels deep.
_MAX_DEPTH = 64
# These opcodes modify the object below their operands, instead of building a new one.
_CHANGING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")


def check_pickle(data: bytes) -> set[str]:
    """Simulate the stack of a pickle without building objects.

    Args:
        data: The pickle.

    Returns:
        The names that it looks up, as "module.name".

    Raises:
        ValueError: It is nested too deeply, or is not a pickle of torch.save.
        Exception: Other types, if it is damaged.
    """
    names = set()
    depths: list[int | None] = []  # of the values on the stack; None for a mark
    memo: dict[int, int | None] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.proto > 2 or opcode.name in ("INST", "OBJ"):
            msg = f"its pickle has opcode {opcode.name}, which torch.save does not write"
            raise ValueError(msg)
        match opcode.name:
            case "PROTO" if argument != 2:
                msg = f"its pickle has protocol {argument}, expected 2"
                raise ValueError(msg)
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                names.add(f"{module}.{name}")
        if "PUT" in opcode.name:
            memo[argument] = depths[-1]
        elif "GET" in opcode.name:
            depths.append(memo[argument])
        else:
            _step(opcode, depths)
    return names


def _step(opcode: pickletools.OpcodeInfo, depths: list[int | None]) -> None:
    """Apply the stack effect of an opcode to the nesting depths of the values."""
    before = opcode.stack_before
    operands = []
    if pickletools.markobject in before:
        while (depth := depths.pop()) is not None:
            operands.append(depth)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        if (depth := depths.pop()) is None:
            msg = f"opcode {opcode.name} lacks an operand"
            raise ValueError(msg)
        operands.append(depth)
    result = 1 + max(operands) if operands else 0
    if opcode.name in _CHANGING:
        *values, target = operands
        result = max(target, 1 + max(values, default=-1))
    if result > _MAX_DEPTH:
        msg = f"its pickle nests values more than {_MAX_DEPTH} levels deep"
        raise ValueError(msg)
    depths += [None if item is pickletools.markobject else result for item in opcode.stack_after]
