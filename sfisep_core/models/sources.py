"""Names of sources, and the order in which they are returned."""

import re
from collections.abc import Sequence

from sfisep_core.errors import ConfigError

# The order in which the stems of this project's models are returned.
DEFAULT_SOURCES = ("vocals", "drums", "bass", "other")

_MOST_SOURCES = 64
# Names of files of a separation besides the stems of a model.
_RESERVED = ("mixture", "residual")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def in_user_order(sources: Sequence[str]) -> tuple[str, ...]:
    """Sort the sources of a model in the order of output: the usual names come first."""
    known = [name for name in DEFAULT_SOURCES if name in sources]
    return (*known, *(name for name in sources if name not in known))


def check_sources(sources: tuple[str, ...]) -> None:
    """Check that source names can name files: plain words, different, and not reserved.

    Raises:
        ConfigError: No source, more than 64, a name twice (file names are not case-sensitive
            everywhere), a name with characters other than letters, digits, `_` and `-`, or a name
            that other files of a separation have: mixture, residual, or no_X beside X and a third
            source.
    """
    if len(sources) > _MOST_SOURCES:
        msg = f"sources: expected at most {_MOST_SOURCES} names, got {len(sources)}"
        raise ConfigError(msg)
    lower = [name.lower() for name in sources]
    rests = {f"no_{name}" for name in lower} if len(sources) > 2 else set()
    taken = [name for name in sources if name.lower() in {*_RESERVED, *rests}]
    if taken:
        msg = (
            f"sources: {taken[0]!r} is what this program calls another file of a separation: "
            "choose another name"
        )
        raise ConfigError(msg)
    bad = [name for name in sources if not _SOURCE_NAME.fullmatch(name)]
    if bad or not sources or len(set(lower)) != len(sources):
        msg = (
            "sources: expected different names of letters, digits, _ and -, got "
            f"{', '.join(map(repr, bad or sources)) or 'none'}"
        )
        raise ConfigError(msg)
