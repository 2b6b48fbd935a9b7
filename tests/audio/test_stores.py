import os
import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sfisep_core.audio import stores as stores_module
from sfisep_core.audio.stores import DiskStore, MemoryStore, Samples, Store, Stores, walk
from sfisep_core.errors import AudioFileError


def noise(*shape: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore.empty((3, 2), 10)
        return
    with closing(DiskStore((3, 2), tmp_path)) as on_disk:
        yield on_disk


def test_store_gives_back_what_was_appended(store: Store) -> None:
    signal = noise(3, 2, 1000)
    assert store.frames == 0
    assert store.leading == (3, 2)
    assert store.read(0, 0).shape == (3, 2, 0)
    for start, stop in ((0, 0), (0, 7), (7, 400), (400, 1000)):
        store.append(signal[..., start:stop])
        assert store.frames == stop
    np.testing.assert_array_equal(store.read(0, 1000), signal)
    np.testing.assert_array_equal(store.read(399, 401), signal[..., 399:401])
    assert store.read(500, 500).shape == (3, 2, 0)
    assert store.read(0, 3).dtype == np.float32


def test_store_replaces_samples(store: Store) -> None:
    signal = noise(3, 2, 100)
    store.append(signal)
    store.write(20, 2 * signal[..., 20:50])
    store.write(0, signal[..., :0])
    expected = signal.copy()
    expected[..., 20:50] *= 2
    np.testing.assert_array_equal(store.read(0, 100), expected)
    assert store.frames == 100
    store.append(signal[..., :5])  # still at the end
    np.testing.assert_array_equal(store.read(98, 105)[..., 2:], signal[..., :5])


def test_store_is_walked_in_order(store: Store) -> None:
    store.append(noise(3, 2, 103))
    blocks = list(walk(store, 10))
    assert [block.shape[-1] for block in blocks] == [10] * 10 + [3]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=-1), store.read(0, 103))


def test_array_is_worked_on_itself() -> None:
    array = noise(2, 50)
    store = MemoryStore(array)
    store.write(10, np.zeros((2, 5), dtype=np.float32))
    assert not array[:, 10:15].any()


def test_long_signals_go_to_the_disk_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_module, "_LARGEST_IN_MEMORY", 4 * 2 * 100)
    with Stores(tmp_path) as stores:
        assert isinstance(stores.make((2,), 100), MemoryStore)
        store = stores.make((2,), 101)
        assert isinstance(store, DiskStore)
        store.append(noise(2, 101))
        dropped = stores.make((2,), 101)
        stores.drop(dropped)
        with pytest.raises(ValueError, match="closed"):
            dropped.append(noise(2, 1))
        # The file has no name, so that nothing stays when the process is killed.
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        store.read(0, 1)
    assert isinstance(Stores().make((2,), 10**6), MemoryStore)


def test_folder_that_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"temporary samples in .*missing.*No such file"):
        DiskStore((2,), tmp_path / "missing")


def test_full_disk(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(DiskStore((2,), tmp_path)) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))  # Python ignores the signal
        try:
            with pytest.raises(AudioFileError, match=r"free some space"):
                store.append(noise(2, 2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert store.frames == 0


def test_file_cut_short_by_others(tmp_path: Path) -> None:
    with closing(DiskStore((1,), tmp_path)) as store:
        store.append(noise(1, 100))
        os.ftruncate(store._file.fileno(), 200)
        np.testing.assert_array_equal(store.read(0, 50), noise(1, 100)[:, :50])
        with pytest.raises(AudioFileError, match="data that ended early"):
            store.read(0, 100)
