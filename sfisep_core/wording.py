"""Words of messages, and text from outside that is shown in them."""

import unicodedata

_MOST = 2000  # characters of a message: less than a screen
_KEPT_AT_THE_END = 600  # there it says what to do
# What ends lines, changes the direction of text, or tells a terminal to do something.
_ESCAPED_KINDS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LEFT_OUT = " ... "
# Names of many languages, and emoji, need them.
_JOINERS = "\u200c\u200d"


def counted(number: int, noun: str) -> str:
    """Format a number with a noun: `1 track`, `2 tracks`.

    Args:
        number: The number.
        noun: The noun in the singular; its plural ends in s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    r"""Return text that may hold names from outside as it may be shown: escaped, and shortened.

    Args:
        text: Any.

    Returns:
        The text on one line and without control characters, which are written as Python does in
        its strings; of bytes that are no UTF-8 there remains `\xNN`. Where it is longer than 2000
        characters, its middle is left out. What is such text already stays the same.

    >>> printable("a\x1b[31m\n\udce9 é"), len(printable("a" * 10**6))
    ('a\\x1b[31m\\n\\xe9 é', 2000)
    """
    if len(text) > _MOST:
        # Escapes make it longer: as much as that is surely not kept.
        text = f"{text[:_MOST]}{_LEFT_OUT}{text[-_MOST:]}"
    if not text.isprintable():
        text = "".join(map(_escaped, text))
    if len(text) > _MOST:
        end = text[-_KEPT_AT_THE_END:]
        text = f"{text[: _MOST - len(end) - len(_LEFT_OUT)]}{_LEFT_OUT}{end}"
    return text


def _escaped(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _ESCAPED_KINDS:
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte that Python could not decode
        return rf"\x{ord(letter) - 0xDC00:02x}"
    return ascii(letter)[1:-1]
