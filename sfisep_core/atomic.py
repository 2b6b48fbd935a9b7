"""Write files that have their name only when they are complete."""

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success that file replaces `path`.

    After an exception the temporary file is gone, and a file that was there before is still there.

    Args:
        path: Final name.

    Yields:
        Name to write to; random, so that two processes stay out of each other's files.

    Raises:
        OSError: The file cannot be renamed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # gone already where all went well
