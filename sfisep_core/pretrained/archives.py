"""Weights of other programs that are published as one file, and what is known about each."""

from dataclasses import dataclass
from typing import Literal

Form = Literal["default", "published", "voice", "stems"]
"""What is kept of Spleeter's weights, and how it is run; see `spleeter.load_spleeter`."""

_SPLEETER = "https://github.com/deezer/spleeter/releases/download/v1.4.0/"
_SPLEETER_DATA = "Deezer's own recordings (the Bean set of 24,097 songs among them), not published"


@dataclass(frozen=True)
class PublishedWeights:
    """One file of weights.

    Attributes:
        family: Name of the family.
        address: Of the file.
        size: Its bytes; None where they are not known.
        sha256: Of the file; None where it is not known: then the first download's is kept.
        sources: In the order of the model's output.
        native_rate: Hz.
        code_licence: Of the program that it was published with.
        weights_licence: Of the weights, and where that is stated.
        training_data: What it was trained on.
        score: Published, with its definition.
        cost: On a CPU.
        description: One line.
        form: Which of the file's networks are kept, and how they are run.
    """

    family: str
    address: str
    size: int | None
    sha256: str | None
    sources: tuple[str, ...]
    native_rate: int
    code_licence: str
    weights_licence: str
    training_data: str
    score: str
    cost: str
    description: str
    form: Form = "default"


def _spleeter(
    file: str,
    sha256: str,
    sources: tuple[str, ...],
    score: str,
    cost: str,
    *,
    description: str,
    size: int | None = None,
    form: Form = "default",
) -> PublishedWeights:
    return PublishedWeights(
        family="spleeter",
        address=_SPLEETER + file,
        size=size,
        sha256=sha256,
        sources=sources,
        native_rate=44100,
        code_licence="MIT",
        weights_licence='MIT: "source code and pre-trained models are [...] distributed under a '
        'MIT license" (Hennequin et al., JOSS 2020); '
        "the program's README says it of the code only",
        training_data=_SPLEETER_DATA,
        score=score,
        cost=cost,
        description=description,
        form=form,
    )


_SCNET = "https://github.com/ZFTurbo/Music-Source-Separation-Training/releases/download/"


def _scnet(
    file: str, size: int, sha256: str, score: str, cost: str, *, description: str
) -> PublishedWeights:
    return PublishedWeights(
        family="scnet",
        address=_SCNET + file,
        size=size,
        sha256=sha256,
        sources=("drums", "bass", "other", "vocals"),
        native_rate=44100,
        code_licence="MIT",
        weights_licence="MIT: so the author stated of the released weights on 2026-07-17, which "
        "may be converted and redistributed; they were trained on MUSDB18-HQ, whose audio is for "
        "non-commercial use",
        training_data="MUSDB18-HQ, whose audio is for non-commercial use",
        score=score,
        cost=cost,
        description=description,
    )


_TORCHAUDIO = "https://download.pytorch.org/torchaudio/models/"


def _torchaudio(
    family: str,
    file: str,
    size: int,
    sha256: str | None,
    sources: tuple[str, ...],
    native_rate: int,
    *,
    training_data: str,
    score: str,
    cost: str,
    description: str,
) -> PublishedWeights:
    return PublishedWeights(
        family=family,
        address=_TORCHAUDIO + file,
        size=size,
        sha256=sha256,
        sources=sources,
        native_rate=native_rate,
        code_licence="BSD-2-Clause",
        weights_licence="unstated: torchaudio publishes the weights without terms, and its "
        "BSD-2-Clause licence is that of the code; ask its authors before you use them for more "
        "than trying out",
        training_data=training_data,
        score=score,
        cost=cost,
        description=description,
    )


_TWO_STEMS = (
    "2stems.tar.gz",
    "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692",
    ("vocals", "accompaniment"),
)
_FOUR_SCORE = (
    "SDR (BSS Eval) on MUSDB18 with soft masks: vocals 6.55, drums 5.93, bass 5.10, other 4.24 dB "
    "(JOSS 2020)"
)

ARCHIVES: dict[str, PublishedWeights] = {
    "spleeter-2stems": _spleeter(
        *_TWO_STEMS,
        "none for this model",
        "0.15 CPU-s a second of stereo at 44.1 kHz, 0.06 at 8 kHz (one thread, a busy machine)",
        size=73_109_797,
        description="vocals and accompaniment, at any rate; trained on 24,000 songs",
    ),
    "spleeter-4stems": _spleeter(
        "4stems.tar.gz",
        "3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8",
        ("vocals", "drums", "bass", "other"),
        _FOUR_SCORE,
        "about twice that of spleeter-2stems (by its size; not measured)",
        description="vocals, drums, bass and other, at any rate; trained on 24,000 songs",
    ),
    "spleeter-5stems": _spleeter(
        "5stems.tar.gz",
        "25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218",
        ("vocals", "piano", "drums", "bass", "other"),
        "none for this model",
        "about 2.5 times that of spleeter-2stems (by its size; not measured)",
        description="the same with piano",
    ),
    "scnet": _scnet(
        "v.1.0.6/scnet_checkpoint_musdb18.ckpt",
        42_434_986,
        "1bc0d1abb20bfdf966dcd07637bafd03e4bc13653d09ef18bc9b3e342eafe2aa",
        "SDR of whole songs on MUSDB18-HQ, mean over stems: 9.03 dB",
        "1.2 CPU-s a second of stereo, the context of segments included (random weights, one "
        "thread, a busy machine)",
        description="vocals, drums, bass and other, at any rate; trained on MUSDB18-HQ",
    ),
    "scnet-large": _scnet(
        "v1.0.9/SCNet-large_starrytong_fixed.ckpt",
        168_852_258,
        "65900dfa07d6b6e5d784c0f143920200a4bd281d6e78a806c549d0b912d5885e",
        "SDR of whole songs on MUSDB18-HQ, mean over stems: 9.69 dB (ICASSP 2024)",
        "4.4 CPU-s a second of stereo (random weights, one thread, a busy machine)",
        description="the same with twice the channels",
    ),
    "hdemucs": _torchaudio(
        "hdemucs",
        "hdemucs_high_trained.pt",
        334_697_255,
        "a004b2790d73ffeaa535db458a1a79b539dfdbafbccc31f275d07e632ebd7816",
        ("drums", "bass", "other", "vocals"),
        44100,
        training_data="MUSDB18-HQ, its songs for tests too, whose audio is for non-commercial use, "
        "and 150 songs that are not published",
        score="none that is independent: it was trained on the usual test songs",
        cost="1.0 CPU-s a second of stereo (random weights, one thread, a busy machine)",
        description="vocals, drums, bass and other at 44.1 kHz (others: --method resample)",
    ),
    "conv-tasnet-libri2mix": _torchaudio(
        "conv-tasnet",
        "conv_tasnet_base_libri2mix.pt",
        20_049_107,
        None,
        ("s1", "s2"),
        8000,
        training_data="Libri2Mix: pairs of read sentences (LibriSpeech, CC BY 4.0)",
        score="SI-SNR improvement on Libri2Mix, clean mixtures at 8 kHz: 15.3 dB (torchaudio)",
        cost="1.5 CPU-s a second of stereo at 8 kHz (random weights, one thread, a busy machine)",
        description="two speakers at 8 kHz (other rates: --method resample)",
    ),
}
"""By name."""

BUNDLED_ORIGINS: dict[str, PublishedWeights] = {
    "spleeter-vocals": _spleeter(
        *_TWO_STEMS,
        "none for this network alone",
        "0.07 CPU-s a second of stereo at 44.1 kHz (one thread, a busy machine)",
        size=73_109_797,
        description="the vocals' network of spleeter-2stems alone",
        form="voice",
    ),
}
"""Where weights come from that were published by others and are in this package, by name."""
