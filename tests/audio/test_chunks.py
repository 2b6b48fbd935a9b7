import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfisep_core.audio.chunks import Chunk, OverlapAdd, even_segment, plan_chunks
from sfisep_core.errors import ConfigError

SEGMENT, CONTEXT, FADE, HOP = 40, 16, 8, 4
WINDOW = SEGMENT + 2 * CONTEXT
LENGTHS = [
    *(0, 1, 2, HOP - 1, HOP, HOP + 1),
    *(SEGMENT - 1, SEGMENT, SEGMENT + 1, WINDOW - 1, WINDOW, WINDOW + 1),
    *(WINDOW + SEGMENT - 1, WINDOW + SEGMENT, WINDOW + SEGMENT + 1),
    *(WINDOW + 7 * SEGMENT - 1, WINDOW + 7 * SEGMENT, WINDOW + 7 * SEGMENT + 1, 1234),
]


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def overlap_add(signal: NDArray[np.float32], chunks: list[Chunk]) -> NDArray[np.float32]:
    """Run the identity model over a plan."""
    adder = OverlapAdd(chunks)
    pieces = [adder.push(k, signal[..., c.start : c.stop]) for k, c in enumerate(chunks)]
    return np.concatenate([signal[..., :0], *pieces], axis=-1)


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@pytest.mark.parametrize("frames", LENGTHS)
def test_identity_model_gives_the_input_back(frames: int) -> None:
    chunks = plan_chunks(frames, segment=SEGMENT, context=CONTEXT, fade=FADE, alignment=HOP)
    signal = noise(2, 3, frames)
    result = overlap_add(signal, chunks)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, signal)


plans = {
    "frames": st.integers(0, 3000),
    "segment": st.integers(0, 400),
    "context": st.integers(0, 150),
    "fade": st.integers(0, 200),
    "alignment": st.integers(1, 64),
}


@settings(deadline=None)
@given(**plans)
@example(frames=1000, segment=100, context=50, fade=100, alignment=1)  # nothing but fades
@example(frames=1000, segment=1, context=0, fade=0, alignment=1)
@example(frames=1000, segment=100, context=0, fade=50, alignment=7)  # no room for a fade
def test_every_plan(frames: int, segment: int, context: int, fade: int, alignment: int) -> None:
    chunks = plan_chunks(frames, segment=segment, context=context, fade=fade, alignment=alignment)
    segment = round_up(segment, alignment)
    fade = min(fade, segment, 2 * context)
    window = segment + 2 * context

    assert all(c.start % alignment == 0 for c in chunks)
    assert all(0 <= c.start <= c.keep_start < c.keep_stop <= c.stop <= frames for c in chunks)
    assert all(c.stop - c.start == window for c in chunks[:-1])
    if len(chunks) > 1:
        assert window - alignment < chunks[-1].stop - chunks[-1].start <= window
    for left, right in itertools.pairwise(chunks):
        assert left.start < right.start
        assert left.keep_stop - right.keep_start == fade
        assert left.stop - left.keep_stop >= context - fade
        assert right.keep_start - right.start >= context - fade
    for first, third in zip(chunks, chunks[2:], strict=False):
        assert first.keep_stop <= third.keep_start
    if frames == 0:
        assert chunks == []
    else:
        assert (chunks[0].start, chunks[0].keep_start) == (0, 0)
        assert (chunks[-1].stop, chunks[-1].keep_stop) == (frames, frames)

    signal = noise(frames)
    np.testing.assert_array_equal(overlap_add(signal, chunks), signal)


def test_plan_in_numbers() -> None:
    chunks = plan_chunks(189, segment=38, context=16, fade=8, alignment=4)
    # Rounded up to S = 40: windows of 72 at 0, 40, 80, and the last, which regularly would
    # start at 120 and end at 192, moved back to the first multiple of 4 from which 72 reach 189.
    assert chunks == [
        Chunk(start=0, stop=72, keep_start=0, keep_stop=60),
        Chunk(start=40, stop=112, keep_start=52, keep_stop=100),
        Chunk(start=80, stop=152, keep_start=92, keep_stop=140),
        Chunk(start=120, stop=189, keep_start=132, keep_stop=189),
    ]
    # A context need not be aligned: the longest alignment is that of patches of many seconds.
    assert plan_chunks(189, segment=38, context=14, fade=8, alignment=40) == [
        Chunk(start=0, stop=68, keep_start=0, keep_stop=58),
        Chunk(start=40, stop=108, keep_start=50, keep_stop=98),
        Chunk(start=80, stop=148, keep_start=90, keep_stop=138),
        Chunk(start=120, stop=188, keep_start=130, keep_stop=178),
        Chunk(start=160, stop=189, keep_start=170, keep_stop=189),
    ]
    moved = plan_chunks(161, segment=40, context=16, fade=8, alignment=4)
    assert moved[-1] == Chunk(start=92, stop=161, keep_start=132, keep_stop=161)


@pytest.mark.parametrize("frames", [1, WINDOW - 1, WINDOW])
def test_what_fits_into_one_window_is_one_chunk(frames: int) -> None:
    chunks = plan_chunks(frames, segment=SEGMENT, context=CONTEXT, fade=FADE, alignment=HOP)
    assert chunks == [Chunk(0, frames, 0, frames)]


def test_segment_zero_is_one_chunk_for_the_whole_signal() -> None:
    chunks = plan_chunks(10**9 + 7, segment=0, context=CONTEXT, fade=FADE, alignment=HOP)
    assert chunks == [Chunk(0, 10**9 + 7, 0, 10**9 + 7)]


@pytest.mark.parametrize("frames", [n for n in LENGTHS if n > 0])
def test_context_at_inner_edges_never_reaches_the_result(frames: int) -> None:
    chunks = plan_chunks(frames, segment=SEGMENT, context=CONTEXT, fade=FADE, alignment=HOP)
    adder = OverlapAdd(chunks)
    pieces = []
    for index, chunk in enumerate(chunks):
        heard = np.ones(chunk.stop - chunk.start, dtype=np.float32)
        if index > 0:
            heard[: CONTEXT - FADE // 2] = np.nan
        if index < len(chunks) - 1:
            heard[len(heard) - (CONTEXT - FADE // 2) :] = np.nan
        pieces.append(adder.push(index, heard))
    np.testing.assert_array_equal(np.concatenate(pieces), np.ones(frames))


def test_cross_fade_is_a_straight_line() -> None:
    chunks = plan_chunks(112, segment=40, context=16, fade=8, alignment=4)
    adder = OverlapAdd(chunks)
    result = np.concatenate(
        [
            adder.push(0, np.zeros(72, dtype=np.float32)),
            adder.push(1, np.ones(72, dtype=np.float32)),
        ]
    )
    ramp = (np.arange(8) + 0.5) / 8
    expected = np.concatenate([np.zeros(52), ramp, np.ones(52)])
    np.testing.assert_array_equal(result, expected.astype(np.float32))


def test_pieces_are_final_and_input_is_left_alone() -> None:
    signal = noise(2, 1234)
    chunks = plan_chunks(1234, segment=SEGMENT, context=CONTEXT, fade=FADE, alignment=HOP)
    adder = OverlapAdd(chunks)
    buffer = np.empty((2, WINDOW), dtype=np.float32)
    done = 0
    for index, chunk in enumerate(chunks):
        view = buffer[:, : chunk.stop - chunk.start]
        view[:] = signal[:, chunk.start : chunk.stop]
        piece = adder.push(index, view)
        np.testing.assert_array_equal(view, signal[:, chunk.start : chunk.stop])
        buffer[:] = np.nan  # the caller may use its buffer again
        np.testing.assert_array_equal(piece, signal[:, done : done + piece.shape[1]])
        done += piece.shape[1]
        # All but the cross-fade with the next window has been handed out.
        assert chunk.keep_stop - done == (FADE if index < len(chunks) - 1 else 0)
    assert done == 1234


@pytest.mark.parametrize(("index", "frames"), [(1, WINDOW), (0, WINDOW - 1)])
def test_results_out_of_order_or_cut_are_refused(index: int, frames: int) -> None:
    chunks = plan_chunks(1234, segment=SEGMENT, context=CONTEXT, fade=FADE, alignment=HOP)
    with pytest.raises(ConfigError, match=rf"expected chunk 0 .*got chunk {index} with {frames} "):
        OverlapAdd(chunks).push(index, np.zeros((2, frames), dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "value"),
    [("frames", -1), ("segment", -1), ("context", -2), ("fade", -1), ("alignment", 0)],
)
def test_arguments_out_of_range_are_named(name: str, value: int) -> None:
    arguments = {"frames": 100, "segment": 40, "context": 16, "fade": 8, "alignment": 4}
    arguments[name] = value
    with pytest.raises(ConfigError, match=rf"{name} must be . samples? or more, got {value};"):
        plan_chunks(**arguments)


@given(
    frames=st.integers(0, 2000),
    segment=st.integers(0, 200),
    context=st.integers(0, 40),
    alignment=st.sampled_from([1, 4, 7]),
)
def test_even_segments_hear_little_twice(
    frames: int, segment: int, context: int, alignment: int
) -> None:
    even = even_segment(frames, segment=segment, context=context)
    assert even <= segment or segment == 0
    plan = {"context": context, "fade": 0, "alignment": alignment}
    usual, shared = (plan_chunks(frames, segment=s, **plan) for s in (segment, even))
    # Rounding to the alignment may have made fewer windows do.
    assert len(usual) <= len(shared) <= len(usual) + 1 + len(usual) * alignment // max(1, segment)
    heard = sum(chunk.stop - chunk.start for chunk in shared)
    around = 2 * context
    assert heard <= frames + len(shared) * (around + 2 * alignment)


def test_even_segments_of_a_song() -> None:
    assert even_segment(30, segment=20, context=1) == 14
    assert even_segment(22, segment=20, context=1) == 20
    assert even_segment(23, segment=20, context=1) == 11
    assert even_segment(180, segment=20, context=1) == 20
