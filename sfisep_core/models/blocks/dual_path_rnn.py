"""Recurrent layers along bins, then along frames.

Source: Luo, Chen and Yoshioka, "Dual-path RNN", ICASSP 2020, as Tong et al., "SCNet", ICASSP 2024,
have it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-5
# On CPUs: so many sequences stay in the cache of a core from one step to the next.
_SEQUENCES_OF_A_THREAD = 32


class DualPathLayer(nn.Module):
    """Recurrent layers along bins, then along frames.

    Args:
        channels: Of the features.
        expansion: Hidden features of an LSTM, for one of its input.

    Shape:
        - Input and output: (batch, bins, frames, channels)
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.along_bins = _RecurrentBlock(channels, expansion * channels, axis=1)
        self.along_frames = _RecurrentBlock(channels, expansion * channels, axis=2)

    def forward(self, features: Tensor) -> Tensor:
        """Run both; see the class."""
        found: Tensor = self.along_frames(self.along_bins(features))
        return found


class ChannelsLastNorm(nn.Module):
    """A GroupNorm of one group for channels that lie last.

    Args:
        channels: Of the features.
        num_axes: How many of the last axes share statistics.

    Shape:
        - Input and output: (..., channels)
    """

    def __init__(self, channels: int, *, num_axes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._num_axes = num_axes

    def forward(self, features: Tensor) -> Tensor:
        """Normalise; see the class."""
        normal = functional.layer_norm(features, features.shape[-self._num_axes :], eps=_EPS)
        return torch.addcmul(self.bias, normal, self.weight)


class _RecurrentBlock(nn.Module):
    """A bidirectional LSTM along one axis, behind a norm and beside what it is given.

    Shape:
        - Input and output: (batch, bins, frames, channels)
    """

    def __init__(self, channels: int, hidden: int, *, axis: int) -> None:
        super().__init__()
        self.norm = ChannelsLastNorm(channels, num_axes=3)
        self.lstm = nn.LSTM(channels, hidden, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, channels)
        self._axis = axis

    def forward(self, features: Tensor) -> Tensor:
        """Run the layer; see the class."""
        # Steps first, and sequences of the other axis and of the batch in one: a step is then a
        # product of two large matrices.
        steps = self.norm(features).movedim(self._axis, 0)
        sequences = steps.flatten(1, 2)
        mixed: Tensor
        if sequences.device.type == "cpu" and not torch.is_grad_enabled():
            most = _SEQUENCES_OF_A_THREAD * torch.get_num_threads()
            parts = sequences.tensor_split(math.ceil(sequences.shape[1] / most), dim=1)
            mixed = torch.cat([self._mix(part) for part in parts], dim=1)
        else:
            mixed = self._mix(sequences)
        return features + mixed.view(steps.shape).movedim(0, self._axis)

    def _mix(self, sequences: Tensor) -> Tensor:
        """Run LSTM and linear layer on (step, sequence, channels)."""
        if computes_in_16_bits(sequences.device):
            hidden, _ = self.lstm(sequences)
        else:
            with torch.autocast(sequences.device.type, enabled=False):
                hidden, _ = self.lstm(sequences.float())
        mixed: Tensor = self.linear(hidden)
        return mixed


def computes_in_16_bits(device: torch.device) -> bool:
    """Tell whether LSTMs can compute with 16 bits; PyTorch raises where a CPU cannot."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
