"""Programs whose files of `torch.save` are read, told apart without loading PyTorch."""

import zipfile
from pathlib import Path
from typing import Literal

Layout = Literal["sfi-conv-tasnet", "scnet", "hdemucs", "conv-tasnet"]
"""Family of the model in a file, whose tensors have the names of the family's published program."""

PUBLISHED_SOURCES: dict[Layout, tuple[str, ...]] = {
    "sfi-conv-tasnet": ("drums", "bass", "other", "vocals"),
    "scnet": ("drums", "bass", "other", "vocals"),
    "hdemucs": ("drums", "bass", "other", "vocals"),
    "conv-tasnet": ("s1", "s2"),
}
"""In the order of the published weights."""

# Parts of names of tensors that no other of these programs has.
_MARKS: dict[bytes, Layout] = {
    b"SDlayer": "scnet",
    b"freq_encoder": "hdemucs",
    b"mask_generator": "conv-tasnet",
}
_MOST_PICKLE = 4 * 2**20


def torch_layout(path: Path) -> Layout:
    """Detect by names in its pickle which program has written a file of `torch.save`.

    Args:
        path: A file that `model_file_kind` calls "torch".

    Returns:
        The layout; "sfi-conv-tasnet" for files of no known program, whose reader refuses them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.filename.endswith("/data.pkl"):
                    with archive.open(record) as file:
                        content = file.read(_MOST_PICKLE)
                    for mark, layout in _MARKS.items():
                        if mark in content:
                            return layout
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        pass  # the reader of the whole file says what is wrong
    return "sfi-conv-tasnet"
