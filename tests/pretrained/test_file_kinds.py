import gzip
import os
import pickle
from pathlib import Path

import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.file_kinds import check_kind, model_file_kind
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.registry import BUNDLED
from sfisep_core.pretrained.resolve import resolve_model

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"


def test_the_two_formats_are_told_apart(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pt")
    assert model_file_kind(tmp_path / "model.pt") == "torch"
    assert model_file_kind(BUNDLED["sfi-conv-tasnet-small"]) == "safetensors"
    with pytest.raises(CheckpointError, match=r"is a checkpoint of torch\.save, expected a safet"):
        load_model(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="is a safetensors file, expected a checkpoint"):
        check_kind(BUNDLED["sfi-conv-tasnet-small"], "torch")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS_POINTER, "is a Git LFS pointer, .* run `git lfs pull`"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page: a login, error or"),
        (b"\xef\xbb\xbf\r\n  <html lang='en'>", "is a web page: .*/resolve/, not /blob/"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b'{"error": "Repository not found"}', "is JSON text, perhaps the answer of a server"),
        (gzip.compress(b"model", mtime=0), "is packed with gzip: unpack it with gunzip"),
        (gzip.compress(b"model", mtime=0)[:-4], "is cut: a gzip file of 21 bytes without an end"),
        (b"\x1f\x8b no gzip file", "is packed with gzip"),
        (b"BZh91AY&SY" + bytes(20), "is packed with bzip2"),
        (b"\xfd7zXZ\0" + bytes(20), "is packed with xz"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "is an HDF5 file"),
        (pickle.dumps({"state_dict": {}}), "is a bare pickle, which is never loaded"),
        (b"", "is empty: fetch it again"),
        (b"Not Found", "is neither a safetensors file nor a checkpoint of torch"),
        (b"PK\x03\x04" + bytes(100), "is cut: its zip directory, .* is not in its 104 bytes"),
        (
            (1000).to_bytes(8, "little") + b"{}",
            "is cut: its header ends at byte 1008, and it has 1",
        ),
        ((2**62).to_bytes(8, "little") + b"{}", "announces a header of 4611686018427387904 bytes"),
    ],
)
def test_what_was_saved_in_place_of_a_model_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"model file {path}: {words}"):
        resolve_model(str(path))


def test_the_legacy_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="in the legacy format"):
        resolve_model(str(path))


def test_cut_files_are_named(tmp_path: Path) -> None:
    whole = BUNDLED["sfi-conv-tasnet-small"].read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"perhaps because it is cut \(\d+ bytes\).*again"):
        resolve_model(str(path))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(CheckpointError, match="is not a regular file"):
            check_kind(path, "torch")
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        check_kind(tmp_path / "missing", "torch")


def test_a_zip_file_of_a_later_version_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # in the zip directory; the version to extract is at byte 6
    data[entry + 6] = 127
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        resolve_model(path)
