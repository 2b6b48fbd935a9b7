"""Names of the files of stems."""

import string
from collections.abc import Iterator, Mapping, Sequence

from sfisep_core.errors import ConfigError

_FIELDS_OF_STEM = ("track", "stem", "ext")
_FIELDS_OF_RUN = ("parent", "model", "date")


def stem_file_name(pattern: str, *, track: str, stem: str, ext: str) -> str:
    """Fill in the pattern of a stem's file name.

    Args:
        pattern: With {track}, {stem} and {ext} and nothing else in braces.
        track: Name of the input.
        stem: Name of the stem.
        ext: Suffix without its dot.

    Raises:
        ConfigError: An unknown field, or one with a conversion or a format.
    """
    values = {"track": track, "stem": stem, "ext": ext}
    return "".join(
        text if field is None else text + values[field]
        for text, field in _parts(pattern, _FIELDS_OF_STEM)
    )


def stem_pattern(pattern: str, values: Mapping[str, str]) -> str:
    """Fill in those fields of a pattern that are the same for all stems of an input.

    Args:
        pattern: With {track}, {stem}, {parent}, {model}, {date} and {ext} and nothing else in
            braces.
        values: Of {parent}, {model} and {date}.

    Returns:
        A pattern for `stem_file_name`.

    Raises:
        ConfigError: An unknown field, or one with a conversion or a format.

    >>> values = {"parent": "{A}", "model": "default", "date": "2026-01-31"}
    >>> stem_pattern("{parent}/{track}-{stem}.{ext}", values)
    '{{A}}/{track}-{stem}.{ext}'
    """
    filled = ""
    for text, field in _parts(pattern, ("track", "stem", *_FIELDS_OF_RUN, "ext")):
        filled += _escaped(text)
        if field is not None:
            filled += _escaped(values[field]) if field in values else "{" + field + "}"
    return filled


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _parts(pattern: str, fields: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Split a pattern into pieces of text, each with the field after it."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigError(_refusal(pattern, fields, str(error))) from error
    for text, field, form, conversion in parts:
        if field is not None and (field not in fields or form or conversion):
            field += f"!{conversion}" if conversion else ""
            field += f":{form}" if form else ""
            raise ConfigError(_refusal(pattern, fields, "{" + field + "}"))
        yield text, field


def _refusal(pattern: str, fields: Sequence[str], got: str) -> str:
    *others, last = ["{" + field + "}" for field in fields]
    return (
        f"file name {pattern!r}: expected a pattern with {', '.join(others)} and {last}, just "
        f"so, got {got}"
    )
