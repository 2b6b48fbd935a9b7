import contextlib
import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained import checkpoint_files
from sfisep_core.pretrained.checkpoint_files import read_checkpoint
from sfisep_core.pretrained.crc32c import crc32c, masked_crc32c
from sfisep_core.pretrained.file_kinds import is_checkpoint
from sfisep_core.pretrained.tensorflow_checkpoint import (
    DamagedCheckpointError,
    read_index,
    read_tensors,
)
from tests.pretrained.checkpoint_writer import (
    DATA,
    HEADER,
    INDEX,
    block_of,
    description,
    field,
    masked_sum,
    table_of,
    tar_of,
    varint,
    write_checkpoint,
    zip_of,
)

Tensors = dict[str, NDArray[np.generic]]


def some_tensors() -> Tensors:
    draw = np.random.default_rng(0)
    return {
        "conv2d/kernel": draw.standard_normal((5, 5, 2, 3)).astype(np.float32),
        "conv2d/bias": draw.standard_normal(3).astype(np.float32),
        "conv2d_1/kernel": draw.standard_normal((4, 4, 1, 2)).astype(np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "global_step": np.array(1_000_000_007, dtype=np.int64),
    }


INDEX_BYTES, DATA_BYTES = write_checkpoint(some_tensors())


def assert_same(found: Tensors) -> None:
    expected = some_tensors()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


# Checksums


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4, as all that follow
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_the_published_ones(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@settings(deadline=None)
@given(st.binary(max_size=700))
def test_checksums_of_any_length(data: bytes) -> None:
    assert masked_crc32c(data) == masked_crc32c(memoryview(data)) == masked_sum(data)


@pytest.mark.slow
def test_checksum_of_a_large_array_sees_every_part() -> None:
    data = np.random.default_rng(0).bytes(300_001)
    assert masked_crc32c(data) == masked_sum(data)
    for place in (0, 1, 150_000, 300_000):
        changed = bytearray(data)
        changed[place] ^= 4
        assert crc32c(bytes(changed)) != crc32c(data)


# Tables


def test_tensors_come_back() -> None:
    assert_same(read_tensors(INDEX_BYTES, DATA_BYTES))
    entry = read_index(INDEX_BYTES)["conv2d/kernel"]
    assert (entry.shape, entry.size) == ((5, 5, 2, 3), 600)


def test_keys_may_share_their_beginnings() -> None:
    data = np.arange(6, dtype=np.float32).tobytes()
    first, second = (
        description([3], offset, 12, masked_sum(data[offset : offset + 12])) for offset in (0, 12)
    )
    block = b"".join(
        varint(shared) + varint(len(key)) + varint(len(value)) + key + value
        for shared, key, value in ((0, *HEADER), (0, b"norm/beta", first), (5, b"gamma", second))
    )
    index = table_of([block + bytes(4) + (1).to_bytes(4, "little")])
    assert list(read_tensors(index, data)) == ["norm/beta", "norm/gamma"]


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["index", "data"])
def test_every_changed_byte_is_noticed(damaged: str) -> None:
    whole = INDEX_BYTES if damaged == "index" else DATA_BYTES
    for place in range(len(whole)):
        for change in (0x80, 0xFF) if damaged == "index" else (1 << place % 8,):
            changed = bytearray(whole)
            changed[place] ^= change
            pair = (bytes(changed), DATA_BYTES) if damaged == "index" else (INDEX_BYTES, changed)
            with pytest.raises(DamagedCheckpointError):
                read_tensors(*map(bytes, pair))


def test_every_cut_and_every_addition_is_noticed() -> None:
    for length in range(len(INDEX_BYTES)):
        with pytest.raises(DamagedCheckpointError):
            read_index(INDEX_BYTES[:length])
    for data in (DATA_BYTES[:-1], DATA_BYTES[1:], DATA_BYTES + b"\0", b""):
        with pytest.raises(DamagedCheckpointError):
            read_tensors(INDEX_BYTES, data)
    with pytest.raises(DamagedCheckpointError):
        read_index(b"\0" + INDEX_BYTES)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=4))
def test_blocks_of_anything_with_right_checksums(contents: list[bytes]) -> None:
    with contextlib.suppress(DamagedCheckpointError):
        read_index(table_of(contents))


numbers = st.one_of(st.integers(0, 40), st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1]))
wild_fields = st.builds(
    lambda parts: b"".join(field(*part) for part in parts),
    st.lists(st.tuples(st.integers(1, 7), st.one_of(numbers, st.binary(max_size=12))), max_size=8),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(wild_fields, max_size=3), st.binary(max_size=24))
def test_descriptions_of_anything(values: list[bytes], data: bytes) -> None:
    entries = [(b"t%d" % number, value) for number, value in enumerate(values)]
    try:
        tensors = read_tensors(table_of([block_of([HEADER, *entries])]), data)
    except DamagedCheckpointError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) == len(data)


FOUR = np.ones(4, np.float32).tobytes()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(b"a", description([4], 0, 16, 0))], "checksum of tensor a differs"),
        ([(b"a", description([4], 4, 16, 0))], "expected it to begin at 0"),
        ([(b"a", description([2], 0, 8, 0))], "tensors fill 8 bytes, the data file has 16"),
        ([(b"a", description([5], 0, 20, 0))], "expected it to begin at 0 and to end at 16"),
        (
            [(b"a", description([4], 0, 16, 0)), (b"b", description([4], 0, 16, 0))],
            "expected it to begin at 16",
        ),
        ([(b"a", description([4], 0, 2**63, 0))], "expected a number of 0 or more in field 5"),
        ([(b"a", description([2**40, 2**40], 0, 16, 0))], "16 bytes do not hold"),
        ([(b"a", description([4], 0, 16, 0, dtype=2))], "found dtype number 2"),
        ([(b"a", description([4], 0, 16, 0, more=field(7, b"")))], "expected whole 32-bit floats"),
        ([(b"a", description([4], 0, 16, 0, more=field(3, 1)))], "expected whole 32-bit floats"),
        (
            [(name, description([0], 0, 0, 0)) for name in (b"b", b"a")],
            "not in order at b'a'",
        ),
        ([(b"a\xff", b"")], "names of tensors in UTF-8"),
    ],
)
def test_wrong_descriptions_are_named(entries: list[tuple[bytes, bytes]], message: str) -> None:
    with pytest.raises(DamagedCheckpointError, match=message):
        read_tensors(table_of([block_of([HEADER, *entries])]), FOUR)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (table_of([block_of([(b"", field(1, 2))])]), "found 2 shards"),
        (table_of([block_of([(b"a", description([0], 0, 0, masked_sum(b"")))])]), "header of the"),
        (table_of([block_of([HEADER])], compression=1), "without compression .* found number 1"),
        (b"not a table" * 9, "expected the index of a TensorFlow checkpoint"),
    ],
)
def test_other_tables_are_refused(index: bytes, message: str) -> None:
    with pytest.raises(DamagedCheckpointError, match=message):
        read_index(index)


@pytest.mark.slow
def test_more_tensors_than_any_model_has_are_refused() -> None:
    about = description([0], 0, 0, masked_sum(b""))
    many = [(b"%06d" % number, about) for number in range(10_001)]
    with pytest.raises(DamagedCheckpointError, match="at most 10000 tensors"):
        read_index(table_of([block_of([HEADER, *many])]))


# Folders, archives and wheels

FILES = {INDEX: INDEX_BYTES, DATA: DATA_BYTES}


def as_folder(place: Path) -> Path:
    place.mkdir()
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    (place / f"._{INDEX}").write_bytes(b"of macOS")
    return place


def as_tar(place: Path) -> Path:
    files = {"./checkpoint": b"model", "./._model.index": b"of macOS"}
    place.write_bytes(tar_of(files | {f"./{name}": content for name, content in FILES.items()}))
    return place


def as_wheel(place: Path) -> Path:
    files = {f"a/2stems/{name}": content for name, content in FILES.items()}
    return zip_of(place.with_suffix(".whl"), {"a/__init__.py": b"raise SystemExit", **files})


@pytest.mark.parametrize("make", [as_folder, as_tar, as_wheel])
def test_the_same_from_folder_archive_and_wheel(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    assert is_checkpoint(path)
    assert_same(read_checkpoint(path))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_index_stands_for_both_files(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "model") / INDEX
    assert is_checkpoint(path)
    assert_same(read_checkpoint(path))


def error_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert "No such file" in error_of(tmp_path / "nothing.tar.gz")
    folder = as_folder(tmp_path / "model")
    (folder / DATA).unlink()
    assert "No such file" in error_of(folder)
    (folder / INDEX).unlink()
    assert "found none" in error_of(folder)
    assert not is_checkpoint(folder)
    (tmp_path / "half.tar.gz").write_bytes(tar_of({INDEX: INDEX_BYTES}))
    assert "found no *.data-00000-of-00001" in error_of(tmp_path / "half.tar.gz")


def test_two_checkpoints_are_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "model")
    (folder / "second.index").write_bytes(INDEX_BYTES)
    assert "found model.index, second.index: name the file" in error_of(folder)
    files = {f"{n}stems/{name}": content for n in (2, 4) for name, content in FILES.items()}
    assert "found 2stems/model and 4stems/model" in error_of(zip_of(tmp_path / "two.whl", files))
    (tmp_path / "two.tar.gz").write_bytes(tar_of(files))
    assert "found 2stems/model and 4stems/model" in error_of(tmp_path / "two.tar.gz")


def test_members_are_read_and_never_extracted(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, target in ((INDEX, "/etc/passwd"), (DATA, INDEX)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    (tmp_path / "links.tar.gz").write_bytes(packed.getvalue())
    assert "found no *.index" in error_of(tmp_path / "links.tar.gz")
    files = {f"../../{name}": content for name, content in FILES.items()}
    (tmp_path / "up.tar.gz").write_bytes(tar_of(files))
    assert_same(read_checkpoint(tmp_path / "up.tar.gz"))
    assert not (tmp_path.parent / INDEX).exists()


def test_sizes_are_limited_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_files, "_MOST_BYTES", {".index": 100, DATA[5:]: 100})
    for make in (as_folder, as_tar, as_wheel):
        assert "expected at most 100" in error_of(make(tmp_path / f"large-{make.__name__}"))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_files, "_MOST_UNPACKED", 2**20)
    (tmp_path / "bomb.tar.gz").write_bytes(tar_of({"zeros": bytes(2**21), **FILES}))
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 2**14
    assert "unpacks to more than 1048576 bytes" in error_of(tmp_path / "bomb.tar.gz")
    # A member that says it had 2^34 bytes.
    head = tarfile.TarInfo(DATA)
    head.size = 2**34
    (tmp_path / "says.tar.gz").write_bytes(gzip.compress(head.tobuf()))
    assert "has 17179869184 bytes, expected at most" in error_of(tmp_path / "says.tar.gz")


@pytest.mark.slow
@pytest.mark.parametrize("make", [as_tar, as_wheel])
def test_damaged_archives_are_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "model")
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    for length in range(0, len(whole) - 1024, 97):  # an archive's end may be filling
        path.write_bytes(whole[:length])
        error_of(path)
    noticed = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[draw.integers(len(whole))] ^= int(draw.integers(1, 256))
        path.write_bytes(changed)
        try:  # headers have bytes that mean nothing here, such as dates
            assert_same(read_checkpoint(path))
        except CheckpointError:
            noticed += 1
    assert noticed > 100


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    for name, content in (("a.wav", b"RIFF" * 99), ("empty", b""), ("x.safetensors", bytes(99))):
        (tmp_path / name).write_bytes(content)
        assert not is_checkpoint(tmp_path / name)
        error_of(tmp_path / name)
    assert not is_checkpoint(zip_of(tmp_path / "other.zip", {"data.pkl": b""}))
    assert not is_checkpoint(tmp_path / "absent")
    assert not is_checkpoint(tmp_path)
