"""Names of the files of stems."""

import string

from sfisep_core.errors import ConfigError

_FIELDS = ("track", "stem", "ext")


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
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigError(_refusal(pattern, str(error))) from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in _FIELDS or form or conversion):
            field += f"!{conversion}" if conversion else ""
            field += f":{form}" if form else ""
            raise ConfigError(_refusal(pattern, "{" + field + "}"))
    return pattern.format(track=track, stem=stem, ext=ext)


def _refusal(pattern: str, got: str) -> str:
    return (
        f"file name {pattern!r}: expected a pattern with {{track}}, {{stem}} and {{ext}}, just "
        f"so, got {got}"
    )
