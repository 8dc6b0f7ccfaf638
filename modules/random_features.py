"""Random features: a fixed random map of the channels, for classifiers that are solved for and not trained."""

from torch import Tensor, nn


class RandomFeatures(nn.Conv2d):
    """Maps (B, channels, h, w) to ReLU(weight x), (B, features, h, w). It never trains.

    The weight (features, channels, 1, 1) starts as that of any layer: uniform, at most 1 / sqrt(channels).
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__(channels, features, 1, bias=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu_()
