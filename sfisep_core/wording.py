"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """Name a number of things: `1 track`, `2 tracks`.

    Args:
        number: How many.
        noun: In the singular; an s makes its plural.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
