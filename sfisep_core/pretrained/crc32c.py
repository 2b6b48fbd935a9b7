"""CRC-32C (Castagnoli) of large arrays, vectorised with NumPy.

A CRC register is linear over bits: with A_n the map of n zero bytes on a register,

    crc(left right) = A_n crc(left) + crc(right)        (n bytes in `right`, + is XOR).

So the four-byte words of the data are combined in pairs, these again in pairs, and so on. Each
level of this tree applies one linear map to half of its values, with two table lookups per value.

Source: RFC 3720, appendix B.4 (polynomial and test values).
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # bits reversed
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview) -> int:
    """Compute the CRC-32C of bytes, in about 8 ns per byte.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    # A zero register is not changed by zero bytes, so they pad the first word. The initial value of
    # ones is equivalent to XORing ones onto the first four bytes of the data.
    length = len(data)
    padding = -length % 4
    padded = np.zeros(length + padding, dtype=np.uint8)
    padded[padding:] = np.frombuffer(data, dtype=np.uint8)
    if length < 4:
        register = _ONES
        for byte in padded[padding:].tolist():
            register = _shift_bits(register ^ byte, 8)
        return register ^ _ONES
    padded[padding : padding + 4] ^= np.uint8(0xFF)
    values = padded.view("<u4").astype(np.uint32, copy=False)
    # The map of four zero bytes on each bit of a register.
    columns = np.array([_shift_bits(1 << bit, 32) for bit in range(32)], dtype=np.uint32)
    four_bytes = columns
    while len(values) > 1:
        if len(values) % 2:
            values = np.concatenate([np.zeros(1, np.uint32), values])
        values = _apply(columns, values[0::2]) ^ values[1::2]
        columns = _apply(columns, columns)  # twice as many bytes
    return int(_apply(four_bytes, values)[0]) ^ _ONES


def masked_crc32c(data: bytes | memoryview) -> int:
    """Compute a CRC-32C as LevelDB and TensorFlow store it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ONES


def _shift_bits(register: int, count: int) -> int:
    """Compute the effect of `count` zero bits on a register."""
    for _ in range(count):
        register = (register >> 1) ^ (_POLYNOMIAL if register & 1 else 0)
    return register


def _apply(columns: Words, values: Words) -> Words:
    """Apply the linear map whose value for bit i is columns[i]."""
    if len(values) <= 2048:  # tables would be slower
        bits = (values[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
        result: Words = np.bitwise_xor.reduce(bits * columns, axis=1)
        return result
    low, high = _table(columns[:16]), _table(columns[16:])
    looked_up: Words = low[values & np.uint32(0xFFFF)] ^ high[values >> np.uint32(16)]
    return looked_up


def _table(columns: Words) -> Words:
    table = np.zeros(1, dtype=np.uint32)
    for column in columns:
        table = np.concatenate([table, table ^ column])
    return table
