"""`sfisep listen`: a page that plays the stems of a recording together."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.options import Quiet
from sfisep_cli.render import progress_bar, show_message, show_output


def listen(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder with the stems of one recording, such as separated/default/song.",
        ),
    ],
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the web browser.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a page to listen to stems: FOLDER/listen.html, which plays the files beside it.

    It shows waveforms and spectrograms, plays all stems in step, and has solo, mute, volume and a
    loop. Any browser opens it, on phones too, without a network. Its path goes to standard output.
    """
    from sfisep_core.separation.listening import ListeningRequest, make_listening_page

    with progress_bar(quiet=quiet) as show_progress:
        page = make_listening_page(ListeningRequest(folder), progress=show_progress)
    show_output(str(page.path))
    if open_page and not webbrowser.open(page.path.absolute().as_uri()):
        show_message(f"no web browser was found: open {page.path} in one")
