"""Weights of other programs that are published as one file, and what is known about each."""

from dataclasses import dataclass
from typing import Literal

Form = Literal["default", "published", "voice", "stems"]
"""What is kept of Spleeter's weights, and how it is run; see `spleeter.load_spleeter`."""


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
        cost: On a CPU, beside that of the default model where it was measured
            (docs/reference/model-costs.md).
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


@dataclass(frozen=True)
class _Publisher:
    """What the files of one publisher share: see `PublishedWeights`."""

    address: str
    code_licence: str
    weights_licence: str


_SPLEETER = _Publisher(
    address="https://github.com/deezer/spleeter/releases/download/v1.4.0/",
    code_licence="MIT",
    weights_licence='MIT: "source code and pre-trained models are [...] distributed under a '
    'MIT license" (Hennequin et al., JOSS 2020); '
    "the program's README says it of the code only",
)
_SCNET = _Publisher(
    address="https://github.com/ZFTurbo/Music-Source-Separation-Training/releases/download/",
    code_licence="MIT",
    weights_licence="MIT: so the author stated of the released weights on 2026-07-17, which "
    "may be converted and redistributed; they were trained on MUSDB18-HQ, whose audio is for "
    "non-commercial use",
)
_TORCHAUDIO = _Publisher(
    address="https://download.pytorch.org/torchaudio/models/",
    code_licence="BSD-2-Clause",
    weights_licence="unstated: torchaudio publishes the weights without terms, and its "
    "BSD-2-Clause licence is that of the code; ask its authors before you use them for more "
    "than trying out",
)


def _published(
    publisher: _Publisher,
    file: str,
    *,
    family: str,
    size: int | None,
    sha256: str | None,
    sources: tuple[str, ...],
    training_data: str,
    score: str,
    cost: str,
    description: str,
    native_rate: int = 44100,
    form: Form = "default",
) -> PublishedWeights:
    return PublishedWeights(
        family=family,
        address=publisher.address + file,
        size=size,
        sha256=sha256,
        sources=sources,
        native_rate=native_rate,
        code_licence=publisher.code_licence,
        weights_licence=publisher.weights_licence,
        training_data=training_data,
        score=score,
        cost=cost,
        description=description,
        form=form,
    )


_BEAN = "Deezer's own recordings (the Bean set of 24,097 songs among them), not published"
_MUSDB18 = "MUSDB18-HQ, whose audio is for non-commercial use"
_TWO_STEMS_SHA256 = "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692"

ARCHIVES: dict[str, PublishedWeights] = {
    "spleeter-2stems": _published(
        _SPLEETER,
        "2stems.tar.gz",
        family="spleeter",
        size=73_109_797,
        sha256=_TWO_STEMS_SHA256,
        sources=("vocals", "accompaniment"),
        training_data=_BEAN,
        score="none for this model",
        cost="0.6 of what `default` takes at 44.1 kHz, 0.5 at 8 kHz (one thread)",
        description="vocals and accompaniment, at any rate; trained on 24,000 songs",
    ),
    "spleeter-4stems": _published(
        _SPLEETER,
        "4stems.tar.gz",
        family="spleeter",
        size=None,
        sha256="3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8",
        sources=("vocals", "drums", "bass", "other"),
        training_data=_BEAN,
        score="SDR (BSS Eval) on MUSDB18 with soft masks: vocals 6.55, drums 5.93, bass 5.10, "
        "other 4.24 dB (JOSS 2020)",
        cost="about twice that of spleeter-2stems (by its size; not measured)",
        description="vocals, drums, bass and other, at any rate; trained on 24,000 songs",
    ),
    "spleeter-5stems": _published(
        _SPLEETER,
        "5stems.tar.gz",
        family="spleeter",
        size=None,
        sha256="25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218",
        sources=("vocals", "piano", "drums", "bass", "other"),
        training_data=_BEAN,
        score="none for this model",
        cost="about 2.5 times that of spleeter-2stems (by its size; not measured)",
        description="the same with piano",
    ),
    "scnet": _published(
        _SCNET,
        "v.1.0.6/scnet_checkpoint_musdb18.ckpt",
        family="scnet",
        size=42_434_986,
        sha256="1bc0d1abb20bfdf966dcd07637bafd03e4bc13653d09ef18bc9b3e342eafe2aa",
        sources=("drums", "bass", "other", "vocals"),
        training_data=_MUSDB18,
        score="SDR of whole songs on MUSDB18-HQ, mean over stems: 9.03 dB",
        cost="5 times what `default` takes, at 44.1 kHz (random weights, one thread)",
        description="vocals, drums, bass and other, at any rate; trained on MUSDB18-HQ",
    ),
    "scnet-large": _published(
        _SCNET,
        "v1.0.9/SCNet-large_starrytong_fixed.ckpt",
        family="scnet",
        size=168_852_258,
        sha256="65900dfa07d6b6e5d784c0f143920200a4bd281d6e78a806c549d0b912d5885e",
        sources=("drums", "bass", "other", "vocals"),
        training_data=_MUSDB18,
        score="SDR of whole songs on MUSDB18-HQ, mean over stems: 9.69 dB (ICASSP 2024)",
        cost="17 times what `default` takes, at 44.1 kHz (random weights, one thread)",
        description="the same with twice the channels",
    ),
    "hdemucs": _published(
        _TORCHAUDIO,
        "hdemucs_high_trained.pt",
        family="hdemucs",
        size=334_697_255,
        sha256="a004b2790d73ffeaa535db458a1a79b539dfdbafbccc31f275d07e632ebd7816",
        sources=("drums", "bass", "other", "vocals"),
        training_data="MUSDB18-HQ, its songs for tests too, whose audio is for non-commercial use, "
        "and 150 songs that are not published",
        score="none that is independent: it was trained on the usual test songs",
        cost="4 times what `default` takes, at 44.1 kHz (random weights, one thread)",
        description="vocals, drums, bass and other at 44.1 kHz (others: --method resample)",
    ),
    "conv-tasnet-libri2mix": _published(
        _TORCHAUDIO,
        "conv_tasnet_base_libri2mix.pt",
        family="conv-tasnet",
        size=20_049_107,
        sha256=None,
        sources=("s1", "s2"),
        native_rate=8000,
        training_data="Libri2Mix: pairs of read sentences (LibriSpeech, CC BY 4.0)",
        score="SI-SNR improvement on Libri2Mix, clean mixtures at 8 kHz: 15.3 dB (torchaudio)",
        cost="1.5 CPU-s a second of stereo at 8 kHz (random weights, one thread, a busy machine)",
        description="two speakers at 8 kHz (other rates: --method resample)",
    ),
}
"""By name."""

BUNDLED_ORIGINS: dict[str, PublishedWeights] = {
    "spleeter-vocals": _published(
        _SPLEETER,
        "2stems.tar.gz",
        family="spleeter",
        size=73_109_797,
        sha256=_TWO_STEMS_SHA256,
        sources=("vocals", "accompaniment"),
        training_data=_BEAN,
        score="none for this network alone",
        cost="a third of what `default` takes, at 44.1 kHz and at 8 kHz (one thread)",
        description="the vocals' network of spleeter-2stems alone",
        form="voice",
    ),
}
"""Where weights come from that were published by others and are in this package, by name."""
