"""Transposed convolutions that double frames and bins, as TensorFlow pads them."""

from torch import Tensor, nn

KERNEL = 5


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of 5 x 5 and stride 2 with TensorFlow's "same" padding.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.

    Shape:
        - Input: (batch, in_channels, frames, bins)
        - Output: (batch, out_channels, 2 frames, 2 bins)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, stride=2)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Double; see the class."""
        # Of the three surplus samples, one comes before and two after.
        return super().forward(features, output_size)[..., 1:-2, 1:-2]
