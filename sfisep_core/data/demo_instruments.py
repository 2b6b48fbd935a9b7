"""Make the sounds of the demo corpus: band-limited tones, drums, a singing voice and a room.

Spectra are functions of frequency in Hz, cut below the Nyquist frequency, and noise has the same
power per Hz at every rate: a song sounds the same at 8 kHz and at 48 kHz, up to the band.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

Samples = npt.NDArray[np.float64]

# Highest partial as a fraction of the Nyquist frequency, with a margin for vibrato and glides.
_USED_BAND = 0.95
_RELEASE_SECONDS = 0.06
# Hop of the voice's filter: short compared with a syllable, long compared with a formant's decay.
_VOICE_HOP_SECONDS = 0.006

# Formants of a, e, i, o, u sung by a tenor: frequency (Hz), level (dB), bandwidth (Hz).
_VOWELS = np.array(
    [
        [[650, 1080, 2650, 2900, 3250], [0, -6, -7, -8, -22], [80, 90, 120, 130, 140]],
        [[400, 1700, 2600, 3200, 3580], [0, -14, -12, -14, -20], [70, 80, 100, 120, 120]],
        [[290, 1870, 2800, 3250, 3540], [0, -15, -18, -20, -30], [40, 90, 100, 120, 120]],
        [[400, 800, 2600, 2800, 3000], [0, -10, -12, -12, -26], [70, 80, 100, 130, 135]],
        [[350, 600, 2700, 2900, 3300], [0, -20, -17, -14, -26], [40, 60, 100, 120, 120]],
    ],
    dtype=np.float64,
)
NUM_VOWELS = len(_VOWELS)
# Noise bands (Hz) and lengths (s) of consonants near s, sh, f, t, k.
_CONSONANTS = (
    (5000.0, 9000.0, 0.09),
    (2200.0, 5500.0, 0.09),
    (1500.0, 9000.0, 0.07),
    (3000.0, 6000.0, 0.03),
    (1200.0, 3000.0, 0.04),
)
NUM_CONSONANTS = len(_CONSONANTS)


@dataclass(frozen=True)
class Timbre:
    """Describe a pitched instrument; times in seconds, brightness in Hz, `detune` in cents."""

    attack: float
    decay: float
    sustain: float
    bright: float
    dull: float
    stride: float = 1.0
    detune: float = 0.0


@dataclass(frozen=True)
class Singer:
    """Describe a voice: formant scale, source brightness (Hz), breath level, vibrato, glide (s)."""

    formant_scale: float
    brightness: float
    breath: float
    vibrato_hz: float
    vibrato_cents: float
    glide: float


@dataclass(frozen=True)
class Syllable:
    """Hold one sung note: times in seconds, MIDI pitch, vowel index, consonant index or None."""

    start: float
    seconds: float
    pitch: float
    vowel: int
    consonant: int | None


def midi_to_hz(pitch: float | Samples) -> Samples:
    """Convert MIDI note numbers (69 is 440 Hz) to Hz."""
    return np.asarray(440.0 * 2.0 ** ((np.asarray(pitch) - 69.0) / 12.0), dtype=np.float64)


def _phase(f0: Samples, sample_rate: int) -> Samples:
    """Integrate a frequency in Hz from phase 0, by the trapezoidal rule."""
    return np.asarray(2.0 * np.pi / sample_rate * (np.cumsum(f0) - 0.5 * (f0[0] + f0)))


def tone(
    f0: Samples, brightness: float | Samples, *, sample_rate: int, stride: float = 1.0
) -> Samples:
    """Synthesise a tone whose partials have the amplitude `exp(-(f - f0) / brightness)`.

    Args:
        f0: fundamental in Hz for each sample, shape (frames,).
        brightness: decay of the partials' amplitude in Hz, one value or one for each sample.
        sample_rate: in Hz.
        stride: distance of the partials over f0; 1 gives all harmonics, 2 the odd ones.

    Returns:
        Samples of shape (frames,); no partial lies above the Nyquist frequency.

    Source: J. A. Moorer, "The Synthesis of Complex Audio Spectra by Means of Discrete Summation
        Formulas", JAES 24(9), 1976.
    """
    # With M partials, phase p and a = exp(-stride f0 / brightness),
    #   sum_{m<M} a^m sin((1 + stride m) p)
    #     = [sin p - a sin((1 - stride) p) - a^M (sin((1 + stride M) p) - a sin(q))] / D,
    #   q = (1 + stride (M - 1)) p,  D = 1 - 2 a cos(stride p) + a^2.
    phase = _phase(f0, sample_rate)
    ratio = np.exp(-stride * f0 / brightness)
    denominator = 1.0 - 2.0 * ratio * np.cos(stride * phase) + ratio * ratio
    total = np.sin(phase)
    if stride != 1.0:
        total -= ratio * np.sin((1.0 - stride) * phase)
    allowed = (_USED_BAND * 0.5 * sample_rate / f0 - 1.0) / stride + 1.0
    whole = np.maximum(np.floor(allowed) - 1.0, 0.0)
    last = ratio**whole
    if np.max(last) < 1e-4:
        return np.asarray(total / denominator)
    # The highest partial is faded in and out, because its index changes as f0 glides.
    top = np.sin((1.0 + stride * whole) * phase)
    total -= last * (top - ratio * np.sin((1.0 + stride * (whole - 1.0)) * phase))
    fade = np.where(allowed >= 1.0, allowed - np.floor(allowed), 0.0)
    return np.asarray(total / denominator + fade * last * top)


def band_noise(
    noise: np.random.Generator, seconds: float, low: float, high: float, *, sample_rate: int
) -> Samples:
    """Draw noise between `low` and `high` Hz (12 dB per octave outside), shape (frames,)."""
    frames = max(1, round(seconds * sample_rate))
    size = fft.next_fast_len(frames, real=True)
    # The deviation grows with sqrt(rate), so that the power per Hz does not depend on the rate.
    white = noise.standard_normal(frames) * np.sqrt(sample_rate / 44100.0)
    frequency = fft.rfftfreq(size, 1.0 / sample_rate)
    squared = frequency * frequency
    shape = squared / np.sqrt((squared**2 + low**4) * (1.0 + squared**2 / high**4))
    return np.asarray(fft.irfft(fft.rfft(white, size) * shape, size)[:frames])


def membrane(
    start_hz: float, end_hz: float, sweep: float, decay: float, *, sample_rate: int
) -> Samples:
    """Synthesise a drum skin: a sine that falls from `start_hz` to `end_hz`; times in seconds."""
    time = np.arange(max(1, round(5.0 * decay * sample_rate))) / sample_rate
    f0 = end_hz + (start_hz - end_hz) * np.exp(-time / sweep)
    # The window ends the exponential at exactly zero.
    window = np.exp(-time / decay) * (1.0 - time / (5.0 * decay))
    return np.asarray(np.sin(_phase(f0, sample_rate)) * window)


def noise_hit(
    noise: np.random.Generator, low: float, high: float, decay: float, *, sample_rate: int
) -> Samples:
    """Make a noise burst between `low` and `high` Hz with an exponential `decay` in seconds."""
    samples = band_noise(noise, 5.0 * decay, low, high, sample_rate=sample_rate)
    time = np.arange(len(samples)) / sample_rate
    return np.asarray(samples * np.exp(-time / decay) * (1.0 - time / (5.0 * decay)))


def note(timbre: Timbre, pitch: float, seconds: float, *, sample_rate: int) -> Samples:
    """Play one note of a MIDI `pitch`, held for `seconds` and then released."""
    length = seconds + _RELEASE_SECONDS
    time = np.arange(max(1, round(length * sample_rate))) / sample_rate
    envelope = timbre.sustain + (1.0 - timbre.sustain) * np.exp(-time / timbre.decay)
    envelope *= np.minimum(1.0, time / timbre.attack)
    envelope *= np.clip((length - time) / _RELEASE_SECONDS, 0.0, 1.0)
    brightness = timbre.dull + (timbre.bright - timbre.dull) * np.exp(-2.0 * time / timbre.decay)
    cents = (-0.5 * timbre.detune, 0.5 * timbre.detune) if timbre.detune else (0.0,)
    total = np.zeros_like(time)
    for offset in cents:
        f0 = np.full_like(time, midi_to_hz(pitch + offset / 100.0))
        total += tone(f0, brightness, sample_rate=sample_rate, stride=timbre.stride)
    return np.asarray(total * envelope)


def breath(noise: np.random.Generator, seconds: float, *, sample_rate: int) -> Samples:
    """Synthesise the sound of breathing in, rising over `seconds`."""
    samples = band_noise(noise, seconds, 900.0, 4500.0, sample_rate=sample_rate)
    position = np.arange(len(samples)) / len(samples)
    return np.asarray(samples * position * np.sin(np.pi * position))


def sing(
    singer: Singer,
    syllables: Sequence[Syllable],
    rng: np.random.Generator,
    noise: np.random.Generator,
    *,
    sample_rate: int,
) -> Samples:
    """Sing one phrase: a pulse source and breath through moving formants, and consonants.

    Args:
        singer: the voice.
        syllables: the notes in order, each starting where the one before it ends.
        rng: generator of the pitch's drift, whose draws do not depend on the rate.
        noise: generator of breath and consonants.
        sample_rate: in Hz.

    Returns:
        Samples of shape (frames,), from the first syllable to the end of the last one.
    """
    times: list[float] = []
    pitches: list[float] = []
    levels: list[float] = []
    vowels: list[Samples] = []
    bursts: list[tuple[float, Samples]] = []
    origin = syllables[0].start
    for index, syllable in enumerate(syllables):
        start, seconds = syllable.start - origin, syllable.seconds
        voiced = start
        if syllable.consonant is not None:
            low, high, length = _CONSONANTS[syllable.consonant]
            length = min(length, 0.3 * seconds)
            burst = band_noise(noise, length, low, high, sample_rate=sample_rate)
            bursts.append((start, burst * np.hanning(len(burst) + 2)[1:-1]))
            voiced += 0.8 * length
        # Level and pitch breakpoints: onset, arrival, hold, end. A legato note does not fall far.
        onset = 0.4 if index and syllable.consonant is None else 0.0
        times += [voiced, voiced + min(singer.glide, 0.25 * seconds), start + 0.8 * seconds]
        times.append(start + 0.999 * seconds)
        previous = syllables[index - 1].pitch if index else syllable.pitch - 1.0
        pitches += [previous, syllable.pitch, syllable.pitch, syllable.pitch]
        levels += [onset, 1.0, 0.85, 0.4 if index + 1 < len(syllables) else 0.0]
        vowels += [_VOWELS[syllable.vowel]] * 4
    seconds = syllables[-1].start + syllables[-1].seconds - origin
    time = np.arange(max(1, round(seconds * sample_rate))) / sample_rate

    level = np.interp(time, times, levels)
    drift_times = np.arange(0.0, seconds + 0.1, 0.05)
    drift = np.interp(time, drift_times, 8.0 * rng.standard_normal(len(drift_times)))
    # Vibrato increases in each note after the glide.
    held = np.interp(time, times, np.tile([0.0, 0.2, 1.0, 0.3], len(syllables)))
    vibrato = singer.vibrato_cents * held * np.sin(2.0 * np.pi * singer.vibrato_hz * time)
    f0 = midi_to_hz(np.interp(time, times, pitches) + (vibrato + drift) / 100.0)
    source = tone(f0, singer.brightness, sample_rate=sample_rate)
    air = band_noise(noise, seconds, 500.0, 9000.0, sample_rate=sample_rate)
    source = level * (source + singer.breath * air)

    voice = _through_formants(
        source, np.array(times), np.stack(vowels), singer.formant_scale, sample_rate
    )
    for start, burst in bursts:
        first = round(start * sample_rate)
        piece = burst[: len(voice) - first]
        voice[first : first + len(piece)] += 0.35 * piece
    return voice


def _through_formants(
    source: Samples, times: Samples, vowels: Samples, scale: float, sample_rate: int
) -> Samples:
    """Filter `source` with vowels of shape (times, 3, formants) that move linearly over `times`."""
    # Frames of four hops under a square-root Hann window, before and after: their sum is 2.
    hop = max(2, round(_VOICE_HOP_SECONDS * sample_rate))
    size = 4 * hop
    count = -(-len(source) // hop) + 3
    padded = np.zeros((count + 3) * hop)
    padded[3 * hop : 3 * hop + len(source)] = source
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    frequency = fft.rfftfreq(size, 1.0 / sample_rate) / scale
    centers = (np.arange(count) - 1.0) * hop / sample_rate
    columns = [np.interp(centers, times, column) for column in vowels.reshape(len(times), -1).T]
    rows = np.stack(columns, axis=-1).reshape(count, *vowels.shape[1:])
    response = np.full((count, len(frequency)), 0.005)
    for center, decibel, width in np.moveaxis(rows, -1, 0).transpose(0, 2, 1)[..., None]:
        distance = (frequency - center) / (0.5 * width)
        response += 10.0 ** (decibel / 20.0) / np.sqrt(1.0 + distance * distance)
    shaped = fft.irfft(fft.rfft(frames, axis=-1) * response, size, axis=-1) * (0.5 * window)
    blocks = shaped.reshape(count, 4, hop)
    total = np.zeros((count + 3, hop))
    for part in range(4):
        total[part : part + count] += blocks[:, part]
    return np.asarray(total.reshape(-1)[3 * hop : 3 * hop + len(source)])


def add_room(
    dry: Samples, noise: np.random.Generator, seconds: float, level: float, *, sample_rate: int
) -> Samples:
    """Add reverberation that falls by 60 dB in `seconds` to a signal of shape (2, frames)."""
    sides = []
    for _ in range(2):
        tail = band_noise(noise, seconds, 200.0, 5000.0, sample_rate=sample_rate)
        tail *= 10.0 ** (-3.0 * np.arange(len(tail)) / len(tail))
        sides.append(tail / np.sqrt(np.sum(tail * tail)))
    wet = signal.oaconvolve(dry.mean(axis=0, keepdims=True), np.stack(sides), axes=-1)
    return np.asarray(dry + level * wet[:, : dry.shape[1]])
