"""DeepLabV3 with two branches at every site, always, in the layout that PyTorch starts with (SPEC 3).

Its parts have the names of public checkpoints, so that it loads the weights of the project's own network. A merged
branch keeps its norm, as the identity.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {"resnet26": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
EPS = 1e-5


def leaky(x: Tensor) -> Tensor:
    """The activation of the network."""
    return F.leaky_relu(x, 0.01, inplace=True)


class Norm(nn.BatchNorm2d):
    """Batch norm that scales by |gamma| + eps; the identity where `merged`."""

    merged = False

    def forward(self, x: Tensor) -> Tensor:
        training = self.training and not self.merged
        eps = 0.0 if self.merged else EPS
        scale = self.weight if self.merged else self.weight.abs() + EPS
        return F.batch_norm(x, self.running_mean, self.running_var, scale, self.bias, training, 0.1, eps)


def mix(first: Tensor, second: Tensor, random: bool) -> Tensor:
    """The two branches (B, C, H, W), weighted channel by channel."""
    draw = torch.rand(first.shape[1])
    weight_first, weight_second = torch.ones(first.shape[1]), torch.ones(first.shape[1])
    if random:
        weight_first[draw < 0.33], weight_second[draw < 0.33] = 2.0, 0.0
        middle = (draw >= 0.33) & (draw < 0.66)
        weight_first[middle], weight_second[middle] = 0.0, 2.0
    weight_first = weight_first.to(first.device)[:, None, None]
    weight_second = weight_second.to(first.device)[:, None, None]
    return weight_first * first / 2 + weight_second * second / 2


class Convs(nn.Module):
    """The residual branch of a block."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, merged: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = Norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=merged)
        self.bn2 = Norm(channels)
        self.conv2_new = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn2_new = Norm(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = Norm(4 * channels)

    def forward(self, x: Tensor, random: bool) -> Tensor:
        x = leaky(self.bn1(self.conv1(x)))
        x = mix(self.bn2(self.conv2(x)), self.bn2_new(self.conv2_new(x)), random)
        return self.bn3(self.conv3(leaky(x)))


class Block(nn.Module):
    """A bottleneck with its shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, merged: bool, first: bool) -> None:
        super().__init__()
        self.convs = Convs(in_channels, channels, stride, dilation, merged)
        if first:
            self.proj_conv = nn.Conv2d(in_channels, 4 * channels, 1, stride, bias=False)
            self.proj_bn = Norm(4 * channels)
        self.first = first

    def forward(self, x: Tensor, random: bool) -> Tensor:
        shortcut = self.proj_bn(self.proj_conv(x)) if self.first else x
        return leaky(self.convs(x, random) + shortcut)


class Head(nn.Module):
    """Atrous spatial pyramid pooling."""

    def __init__(self, in_channels: int, channels: int, merged: bool) -> None:
        super().__init__()

        def convs(bias: bool) -> nn.ModuleList:
            rates = [nn.Conv2d(in_channels, channels, 3, 1, rate, rate, bias=bias) for rate in (6, 12, 18)]
            return nn.ModuleList([nn.Conv2d(in_channels, channels, 1, bias=bias), *rates])

        self.map_convs = convs(merged)
        self.map_bn = Norm(4 * channels)
        self.map_convs_new = convs(False)
        self.map_bn_new = Norm(4 * channels)
        self.red_conv = nn.Conv2d(4 * channels, channels, 1, bias=False)
        self.global_pooling_conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.global_pooling_bn = Norm(channels)
        self.pool_red_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.red_bn = Norm(channels)

    def forward(self, x: Tensor, random: bool) -> Tensor:
        kept = self.map_bn(torch.cat([conv(x) for conv in self.map_convs], dim=1))
        new = self.map_bn_new(torch.cat([conv(x) for conv in self.map_convs_new], dim=1))
        out = self.red_conv(leaky(mix(kept, new, random)))
        # Windows of 32 feature pixels: the whole map up to crops of 512, in evaluation as in training.
        pooled = leaky(self.global_pooling_bn(self.global_pooling_conv(x.mean(dim=(2, 3), keepdim=True))))
        pooled = self.pool_red_conv(pooled).expand(-1, -1, x.shape[2], x.shape[3])
        return leaky(self.red_bn(out + pooled))


class ObviousNetwork(nn.Module):
    """Images (B, 3, H, W) to logits (B, C, H, W) and the six maps of distillation, at output stride 16.

    `merged`: the first branch is the frozen one of steps >= 1.
    """

    def __init__(
        self, *, backbone: str, width: int, head_channels: int, classes_per_head: tuple[int, ...], merged: bool
    ) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.mod1 = nn.Module()
        self.body.mod1.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.body.mod1.bn1 = Norm(width)
        in_channels = width
        for stage, (blocks, stride, dilation) in enumerate(
            zip(BLOCKS[backbone], (1, 2, 2, 1), (1, 1, 1, 2), strict=True)
        ):
            layer, channels = nn.Module(), width * 2**stage
            for i in range(blocks):
                block = Block(in_channels, channels, stride if i == 0 else 1, dilation, merged, first=i == 0)
                layer.add_module(f"block{i + 1}", block)
                in_channels = 4 * channels
            self.body.add_module(f"mod{stage + 2}", layer)
        self.head = Head(in_channels, head_channels, merged)
        self.cls = nn.ModuleList(nn.Conv2d(head_channels, classes, 1) for classes in classes_per_head)
        self.drop_path = True
        if merged:
            frozen = [block.convs for block in self.modules() if isinstance(block, Block)]
            parts = [part for convs in frozen for part in (convs.conv2, convs.bn2)]
            for part in [*parts, self.head.map_convs, self.head.map_bn]:
                part.requires_grad_(False)
                part.merged = True

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        random = self.training and self.drop_path
        x = F.max_pool2d(self.body.mod1.bn1(self.body.mod1.conv1(images)), 3, 2, 1)
        maps = []
        for name in ("mod2", "mod3", "mod4", "mod5"):
            for block in getattr(self.body, name).children():
                x = block(x, random)
            maps.append(x)
        maps.append(self.head(x, random))
        maps.append(torch.cat([classifier(maps[-1]) for classifier in self.cls], dim=1))
        logits = F.interpolate(maps[-1], size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits, maps
