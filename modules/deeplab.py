"""DeepLabV3 head: atrous spatial pyramid pooling with image pooling (SPEC 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.norm import LEAKY_SLOPE, Norm
from modules.parallel_conv import ParallelConv

RATES = {16: (6, 12, 18), 8: (12, 24, 32)}
DROPOUT = 0.1


class DeepLabHead(nn.Module):
    """Maps the last feature map (B, in_channels, h, w) to `pre_logits` (B, channels, h, w).

    `pooling`: window of the image pooling in eval mode, in feature pixels. Training pools the whole map.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: tuple[int, ...],
        pooling: int,
        norm: str,
        branches: int,
        drop_path: bool,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.channels = channels
        parallel = {"norm": norm, "branches": branches, "drop_path": drop_path}
        sizes = [(1, 1), *((3, rate) for rate in rates)]
        self.atrous = nn.ModuleList(
            ParallelConv(in_channels, channels, size, dilation=dilation, **parallel) for size, dilation in sizes
        )
        self.reduce = nn.Conv2d(channels * len(self.atrous), channels, 1, bias=False)
        self.pool_conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.pool_norm = Norm(channels, kind=norm, activation=True)
        self.pool_reduce = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = Norm(channels, kind=norm, activation=True)
        # The mixed norms of RC models carry no activation, hence gain 1 there (SPEC 3).
        gain = 1.0 if branches == 2 else nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)

    def classifier(self, classes: int, *, is_first: bool = False) -> nn.Module:
        """A fresh classifier of what this head gives, for the classes of one step; `is_first`: with the background."""
        return nn.Conv2d(self.channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        local = torch.cat([branch(x) for branch in self.atrous], dim=1)
        context = self.pool_reduce(self.pool_norm(self.pool_conv(self._pool(x))))
        return self.norm(self.reduce(local) + context)

    def _pool(self, x: Tensor) -> Tensor:
        """Mean of the surroundings: of the whole map in training (B, C, 1, 1), of a window in eval (B, C, h, w)."""
        height, width = x.shape[-2:]
        if torch.compiler.is_exporting() and not self.training:
            rows, columns = (_window_means(length, self.pooling, x) for length in (height, width))
            return F.linear(F.linear(x, columns).mT, rows).mT
        window = min(self.pooling, height), min(self.pooling, width)
        if self.training or window == (height, width):
            return x.mean((2, 3), keepdim=True)
        pooled = F.avg_pool2d(x, window, stride=1)
        (top, bottom), (left, right) = (((size - 1) // 2, size // 2) for size in window)
        return F.pad(pooled, (left, right, top, bottom), mode="replicate")


class ConcatHead(DeepLabHead):
    """The head of DKD and STAR (METHODS2 17): all five branches side by side, then two convolutions with ReLU.

    Dropout stands between these. There is none in eval mode, nor where the norm before it is frozen.
    """

    def __init__(self, in_channels: int, channels: int, *, norm: str, **options: object) -> None:
        super().__init__(in_channels, channels, norm=norm, **options)
        del self.pool_reduce
        self.reduce = nn.Conv2d(channels * (len(self.atrous) + 1), channels, 1, bias=False)
        self.norm = Norm(channels, kind=norm, activation=False)
        self.last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.last_norm = Norm(channels, kind=norm, activation=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def _reduced(self, x: Tensor) -> Tensor:
        context = self.pool_norm(self.pool_conv(self._pool(x))).expand(-1, -1, *x.shape[2:])
        return F.relu(self.norm(self.reduce(torch.cat([*(branch(x) for branch in self.atrous), context], dim=1))))

    def forward(self, x: Tensor) -> Tensor:
        reduced = F.dropout(self._reduced(x), DROPOUT, self.training and not self.norm.frozen)
        return F.relu(self.last_norm(self.last(reduced)))


class StepsHead(ConcatHead):
    """The head of SSUL (METHODS 13.2): as ConcatHead, but each step has its last convolution for itself.

    Dropout is there in all training, whatever is frozen.
    """

    def __init__(self, in_channels: int, channels: int, *, norm: str, **options: object) -> None:
        super().__init__(in_channels, channels, norm=norm, **options)
        self.kind = norm
        del self.last, self.last_norm

    def classifier(self, classes: int, *, is_first: bool = False) -> nn.Module:
        """As in DeepLabHead; the background has a part of its own."""
        sizes = [1, classes - 1] if is_first else [classes]
        return StepClassifier([ClassifierPart(self.channels, size, self.kind) for size in sizes])

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self._reduced(x), DROPOUT, self.training)


class ClassifierPart(nn.Module):
    """A 3x3 convolution, norm, ReLU, and the classifiers of some classes."""

    def __init__(self, channels: int, classes: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = Norm(channels, kind=norm, activation=False)
        self.last = nn.Conv2d(channels, classes, 1)
        for convolution in (self.conv, self.last):
            nn.init.kaiming_normal_(convolution.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.conv(x))))


class StepClassifier(nn.Module):
    """The classifiers of a step, in one part or, in step 0, two: background and classes. Their last layers are `weight`
    and `bias`, as of a convolution."""

    def __init__(self, parts: list[ClassifierPart]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    @property
    def weight(self) -> Tensor:
        """(classes, channels, 1, 1)."""
        return torch.cat([part.last.weight for part in self.parts])

    @property
    def bias(self) -> Tensor:
        """(classes,)."""
        return torch.cat([part.last.bias for part in self.parts])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)


class PoolHead(nn.Module):
    """The head of a classification network: the mean of the last map, `pre_logits` (B, in_channels, 1, 1)."""

    def __init__(self, in_channels: int, channels: int, **options: object) -> None:
        super().__init__()
        self.channels = in_channels

    def classifier(self, classes: int, *, is_first: bool = False) -> nn.Module:
        """As in DeepLabHead."""
        return nn.Conv2d(self.channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


HEADS = {"sum": DeepLabHead, "concat": ConcatHead, "steps": StepsHead, "pool": PoolHead}
"""What --head names."""


def _window_means(length: int, window: int, like: Tensor) -> Tensor:
    """(length, length) in the kind of `like`: times a column of pixels, the mean of the window around each of them.

    All that image pooling does along one side, without a branch on `length`, which an exported network does not know.
    """
    window = torch.sym_min(window, length)
    pixels = torch.arange(length)
    first = (pixels - (window - 1) // 2).clamp(0, length - window)
    offset = pixels - first[:, None]
    return ((offset >= 0) & (offset < window)).to(like) / window
