"""Which files browsers play."""

# Codecs by container, as `AudioInfo` names them, that Chromium, Firefox and Safari all play.
_PLAYED_BY_ALL = {
    "wav": {"uint8", "int16", "int24", "float32", "alaw", "ulaw"},
    "flac": {"int8", "int16", "int24"},
    "mp3": {"mp3"},
    "ogg": {"vorbis", "opus"},
    "m4a": {"aac"},
    "mp4": {"aac"},
    "aac": {"aac"},
    "webm": {"vorbis", "opus"},
}


def doubt_about(container: str, encoding: str) -> str | None:
    """Say why not all browsers play a file.

    Args:
        container: Format, as `AudioInfo` names it.
        encoding: Sample format or codec.

    Returns:
        The reason and what to do; None if they do.

    >>> doubt_about("wav", "int24"), doubt_about("aiff", "int16")
    (None, 'not all browsers play AIFF (int16): convert it to WAV, FLAC or MP3')
    """
    if encoding in _PLAYED_BY_ALL.get(container, ()):
        return None
    return f"not all browsers play {container.upper()} ({encoding}): convert it to WAV, FLAC or MP3"
