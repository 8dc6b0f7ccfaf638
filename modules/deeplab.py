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

    def forward(self, x: Tensor) -> Tensor:
        context = self.pool_norm(self.pool_conv(self._pool(x))).expand(-1, -1, *x.shape[2:])
        both = torch.cat([*(branch(x) for branch in self.atrous), context], dim=1)
        reduced = F.relu(self.norm(self.reduce(both)))
        reduced = F.dropout(reduced, DROPOUT, self.training and not self.norm.frozen)
        return F.relu(self.last_norm(self.last(reduced)))


HEADS = {"sum": DeepLabHead, "concat": ConcatHead}
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
