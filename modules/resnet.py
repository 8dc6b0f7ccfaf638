"""ResNet bodies whose 3x3 convolutions may have two branches (SPEC 3)."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modules.norm import Norm, fold, leaky_relu_, set_kernel_, statistics_kept
from modules.parallel_conv import ParallelConv

STRIDES = {32: (1, 2, 2, 2), 16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}
DILATIONS = {32: (1, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}


class ConvNorm(nn.Module):
    """Convolution without bias, then norm, then leaky ReLU where `activation` is set. Folded: one bare convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, norm: str, activation: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm: Norm | None = Norm(out_channels, kind=norm, activation=activation)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            return self.norm(x)
        return leaky_relu_(x) if self.activation else x

    def fold_(self) -> None:
        """Become a bare convolution with bias that equals the eval output before the activation. Idempotent."""
        if self.norm is not None:
            weight, bias = fold(self.conv, self.norm)
            set_kernel_(self.conv, weight, bias)
            self.norm = None


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut; the 3x3 one has stride, dilation and branches."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, dilation: int, norm: str, branches: int, drop_path: bool
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        parallel = {"norm": norm, "branches": branches, "drop_path": drop_path}
        self.conv1 = ConvNorm(in_channels, channels, 1, norm=norm, activation=True)
        self.conv2 = ParallelConv(channels, channels, 3, stride=stride, dilation=dilation, **parallel)
        self.conv3 = ConvNorm(channels, out_channels, 1, norm=norm, activation=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv3(self.conv2(self.conv1(x)))
        return leaky_relu_(out + self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; both have branches, the first one the stride.

    The branches of the second are mixed before the shortcut is added.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, dilation: int, norm: str, branches: int, drop_path: bool
    ) -> None:
        super().__init__()
        parallel = {"dilation": dilation, "norm": norm, "branches": branches, "drop_path": drop_path}
        self.conv1 = ParallelConv(in_channels, channels, 3, stride=stride, **parallel)
        self.conv2 = ParallelConv(channels, channels, 3, activation=False, **parallel)
        self.shortcut = _shortcut(in_channels, channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu_(self.conv2(self.conv1(x)) + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    """A 1x1 convolution where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvNorm(in_channels, out_channels, 1, stride=stride, norm=norm, activation=False)


class ResNet(nn.Module):
    """Maps images (B, 3, H, W) to the outputs of its four stages after their last activation.

    {"layer1": (B, ew, H/4, W/4), "layer2": (B, 2ew, H/8, W/8), "layer3": (B, 4ew, ...), "layer4": (B, 8ew, ...)} with
    w = `width` and e the expansion of `block`, the last two at `output_stride` 32, 16 or 8. `depths`: blocks a stage.
    """

    def __init__(
        self,
        block: type[Bottleneck] | type[BasicBlock],
        depths: tuple[int, ...],
        *,
        output_stride: int,
        width: int,
        norm: str,
        branches: int,
        drop_path: bool,
        stem_activation: bool,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(3, width, 7, stride=2, norm=norm, activation=stem_activation)
        parallel = {"norm": norm, "branches": branches, "drop_path": drop_path}
        in_channels = width
        plan = zip(depths, STRIDES[output_stride], DILATIONS[output_stride], strict=True)
        for stage, (depth, stride, dilation) in enumerate(plan):
            channels = width * 2**stage
            layer = nn.Sequential()
            for number in range(depth):
                first = number == 0
                layer.append(block(in_channels, channels, stride=stride if first else 1, dilation=dilation, **parallel))
                in_channels = channels * block.expansion
            self.add_module(f"layer{stage + 1}", layer)
        self.out_channels = in_channels
        self.checkpoint_blocks = False

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        features = {}
        for name in ("layer1", "layer2", "layer3", "layer4"):
            for block in getattr(self, name):
                x = _recomputed(block, x) if self.checkpoint_blocks and torch.is_grad_enabled() else block(x)
            features[name] = x
        return features


def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """block(x), of which only `x` is kept for the backward pass; there it is computed once more, with the same random
    numbers."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_kept()))
