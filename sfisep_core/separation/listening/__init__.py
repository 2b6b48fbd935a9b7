"""A page to listen to stems: one HTML file beside them."""

from sfisep_core.separation.listening.page import (
    PAGE_NAME,
    ListeningPage,
    ListeningRequest,
    make_listening_page,
    page_of_stems,
    page_path,
)

__all__ = [
    "PAGE_NAME",
    "ListeningPage",
    "ListeningRequest",
    "make_listening_page",
    "page_of_stems",
    "page_path",
]
