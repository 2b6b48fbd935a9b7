"""Write the page to listen to stems."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sfisep_core.errors import AudioFileError
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.foundation.templating import load_templates
from sfisep_core.models.sources import in_user_order
from sfisep_core.separation.inputs import AUDIO_SUFFIXES
from sfisep_core.separation.listening.formats import doubt_about
from sfisep_core.separation.listening.images import DYNAMIC_RANGE_DB, peaks_text, spectrogram_uris
from sfisep_core.separation.listening.overview import Overview, read_overview
from sfisep_core.separation.output import RESIDUAL, left_by
from sfisep_core.wording import counted, printable

PAGE_NAME = "listen.html"

_MIXTURE = "mixture"

_logger = logging.getLogger(__name__)

ShowProgress = Callable[[float, float, str], None]
"""Takes the number of files read, the number of all, and the current one."""


@dataclass(frozen=True)
class ListeningRequest:
    """Request of `make_listening_page`.

    Attributes:
        folder: Folder with audio files of one recording, such as the stems of a separation.
    """

    folder: Path


@dataclass(frozen=True)
class ListeningPage:
    """Result of `make_listening_page`.

    Attributes:
        path: The page.
        stems: File of each stem, by name, in the order on the page.
        seconds: Duration of the longest.
    """

    path: Path
    stems: dict[str, Path]
    seconds: float


def make_listening_page(
    request: ListeningRequest, *, progress: ShowProgress | None = None
) -> ListeningPage:
    """Write a page to listen to the audio files of a folder, FOLDER/listen.html.

    The page plays the files that lie beside it: it holds their waveforms and spectrograms alone. A
    page that is there is replaced.

    Args:
        request: Which folder.
        progress: Called with the number of files read, that of all, and the current one.

    Returns:
        The page and what is on it.

    Raises:
        AudioFileError: There is no audio file in the folder, one cannot be read, or the page cannot
            be written.
    """
    files = _stems_in(request.folder)
    return _write(
        files,
        request.folder / PAGE_NAME,
        title=Path(os.path.abspath(request.folder)).name or str(request.folder),
        progress=progress,
    )


def page_path(stems: Mapping[str, Path], track: str) -> Path:
    """Return where the page of a track is, in the folder that holds all of its stems.

    It is `listen.html` where the files have the names of the stems, as in a folder for each track,
    and `TRACK-listen.html` otherwise.

    Args:
        stems: Audio files by name; at least one.
        track: Name of the track.
    """
    folder = Path(os.path.commonpath([file.parent for file in stems.values()]))
    own_folder = all(file.stem == name for name, file in stems.items())
    return folder / (PAGE_NAME if own_folder else f"{track}-{PAGE_NAME}")


def page_of_stems(stems: Mapping[str, Path], track: str) -> Path:
    """Write a page to listen to the stems of a track, where `page_path` says.

    Args:
        stems: Audio files by name; at least one.
        track: Name of the track, the heading of the page.

    Returns:
        The page.

    Raises:
        AudioFileError: A file cannot be read, or the page cannot be written.
    """
    return _write(stems, page_path(stems, track), title=track).path


def _write(
    stems: Mapping[str, Path], page: Path, *, title: str, progress: ShowProgress | None = None
) -> ListeningPage:
    """Write a page that refers to stems by their paths from its folder, which exists."""
    tell = progress or (lambda _done, _total, _label: None)
    names = _in_order(list(stems))
    overviews = []
    for number, name in enumerate(names):
        tell(number, len(names), str(stems[name]))
        overviews.append(read_overview(stems[name]))
    seconds = max(overview.seconds for overview in overviews)
    doubts = {
        name: doubt
        for name, overview in zip(names, overviews, strict=True)
        if (doubt := doubt_about(overview.container, overview.encoding)) is not None
    }
    text = (
        load_templates(__package__)
        .get_template("listen.html.j2")
        .render(
            title=printable(title),
            seconds=seconds,
            facts=_facts(overviews),
            dynamic_range_db=DYNAMIC_RANGE_DB,
            tracks=_tracks(names, stems, overviews, doubts, page),
        )
    )
    try:
        with written_whole(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = (
            f"page {page}: expected a file that can be written, got {error.strerror}: make room, "
            "or give write access to its folder"
        )
        raise AudioFileError(msg) from error
    for name, doubt in doubts.items():
        _logger.warning("%s: %s", stems[name], doubt)
    return ListeningPage(page, {name: stems[name] for name in names}, seconds)


@dataclass(frozen=True)
class _Track:
    """Data of a stem on the page.

    Attributes:
        name: As shown.
        address: Relative URL of its file.
        share: Its duration as a share of the longest.
        muted: Whether it is muted at first.
        peaks: Smallest and largest samples, encoded.
        spectrogram: Data URI.
        half_rate: Upper end of the spectrogram in kHz.
        doubt: Why not all browsers play it; None if they do.
    """

    name: str
    address: str
    share: float
    muted: bool
    peaks: str
    spectrogram: str
    half_rate: str
    doubt: str | None


def _tracks(
    names: Sequence[str],
    stems: Mapping[str, Path],
    overviews: Sequence[Overview],
    doubts: Mapping[str, str],
    page: Path,
) -> list[_Track]:
    largest = max(float(abs(overview.peaks).max()) for overview in overviews)
    longest = max(overview.seconds for overview in overviews)
    images = spectrogram_uris([overview.power for overview in overviews])
    muted = _muted_at_first(names)
    return [
        _Track(
            name=printable(name),
            address=_address(stems[name], page),
            share=overview.seconds / longest if longest > 0 else 1.0,
            muted=name in muted,
            peaks=peaks_text(overview.peaks, largest=largest),
            spectrogram=image,
            half_rate=f"{overview.sample_rate / 2000:g}",
            doubt=doubts.get(name),
        )
        for name, overview, image in zip(names, overviews, images, strict=True)
    ]


def _stems_in(folder: Path) -> dict[str, Path]:
    """Return the audio files of a folder, by name.

    Raises:
        AudioFileError: There are none, or the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        msg = (
            f"folder of stems {folder}: expected a folder that can be read, got {error.strerror}: "
            "name one that `sfisep separate` has written, such as separated/default/song"
        )
        raise AudioFileError(msg) from error
    files = [file for file in entries if _is_audio(file)]
    if not files:
        below = [entry for entry in entries if entry.is_dir() and any(map(_is_audio, _in(entry)))]
        advice = (
            f"name one of the folders below it, such as {below[0]}"
            if below
            else ("name one that `sfisep separate` has written")
        )
        msg = f"folder of stems {folder}: expected audio files in it, found none: {advice}"
        raise AudioFileError(msg)
    stems = [file.stem for file in files]
    # The ending tells files apart that hold the same stem in two formats.
    return {file.name if stems.count(file.stem) > 1 else file.stem: file for file in files}


def _in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_audio(file: Path) -> bool:
    named = file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".")
    return named and file.is_file()


def _in_order(names: Sequence[str]) -> list[str]:
    """Sort names as they are written; what is no stem of its own comes last."""
    last = {RESIDUAL: 1, _MIXTURE: 2}
    return sorted(in_user_order(names), key=lambda name: last.get(name, 0))


def _muted_at_first(names: Sequence[str]) -> set[str]:
    """Return what would sound twice: the mixture, and a mixture without one of several stems."""
    own = [name for name in names if name not in (_MIXTURE, RESIDUAL)]
    sources = [name for name in own if left_by(name, [n for n in own if n != name]) is None]
    twice = set(own) - set(sources) if len(sources) > 1 else set()
    return twice | ({_MIXTURE} & set(names) if own else set())


def _address(file: Path, page: Path) -> str:
    """Return the relative URL of a file, whatever bytes its name has."""
    relative = os.path.relpath(file, page.parent)
    # A name with a colon would otherwise be taken for another protocol.
    return "./" + quote(os.fsencode(Path(relative).as_posix()))


def _facts(overviews: Sequence[Overview]) -> str:
    """Describe the files in a line: number, sampling frequencies, channels."""
    rates = sorted({overview.sample_rate for overview in overviews})
    channels = sorted({overview.channels for overview in overviews})
    names = {1: "mono", 2: "stereo"}
    return " \N{MIDDLE DOT} ".join(
        [
            counted(len(overviews), "track"),
            f"{', '.join(f'{rate / 1000:g}' for rate in rates)} kHz",
            ", ".join(names.get(count, f"{count} channels") for count in channels),
        ]
    )
