"""Two parallel convolution branches that become one: the heart of RCIL (SPEC 3, 4; paper section 3.2).

A property of a convolution with its norm: any body whose blocks have such convolutions can be an RC network.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from modules.lean_conv import LeanConv, leaves_out, take_channels, used_channels
from modules.norm import Norm, fold, leaky_relu_, set_kernel_

Form = Literal["plain", "dual", "frozen", "merged"]
BECOMES: dict[Form, tuple[Form, ...]] = {
    "plain": ("merged",),
    "dual": ("frozen", "merged"),
    "frozen": ("merged",),
    "merged": (),
}


class ParallelConv(nn.Module):
    """A convolution with its norm, once or twice side by side, then leaky ReLU unless `activation` is off. Four forms:

    - plain: one branch, conv + norm; the networks of the baselines.
    - dual: two trainable branches, mixed channel by channel; step 0.
    - frozen: what was learnt before as one bare convolution with bias that never changes, beside a branch
      that trains; steps >= 1.
    - merged: one bare convolution with bias, all that both branches do; teacher, evaluation, export.

    Maps (B, in_channels, H, W) to (B, out_channels, H', W'). "Same" padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str,
        branches: int,
        drop_path: bool,
        activation: bool = True,
    ) -> None:
        super().__init__()

        def conv() -> LeanConv:
            return LeanConv(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation)

        self.drop_path = drop_path
        self.activation = activation
        self.conv = conv()
        # A single norm carries the activation, two leave it to their mixture (SPEC 3).
        self.norm: Norm | None = Norm(out_channels, kind=norm, activation=activation and branches == 1)
        self.conv_new: LeanConv | None = None
        self.norm_new: Norm | None = None
        if branches == 2:
            self.conv_new = conv()
            self.norm_new = Norm(out_channels, kind=norm, activation=False)

    @property
    def form(self) -> Form:
        """Which of the four forms this is."""
        if self.conv_new is None:
            return "merged" if self.norm is None else "plain"
        return "frozen" if self.norm is None else "dual"

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "plain":
            return self.norm(self.conv(x))
        out = self.conv(x) if self.form == "merged" else self._mixed(x)
        return leaky_relu_(out) if self.activation else out

    def _mixed(self, x: Tensor) -> Tensor:
        """w_1 / 2 * kept + w_2 / 2 * new (SPEC 3)."""
        if not (self.training and self.drop_path):
            return (self.norm_new(self.conv_new(x)) + self._kept(x)) * 0.5
        share = draw_shares(self.conv.out_channels, x.device)
        # Where a channel is of one branch alone, that of the other is worth nothing.
        used, used_new = (used_channels(share), used_channels(1 - share)) if leaves_out(share, x) else (None, None)
        new = self.norm_new(self.conv_new(x, used_new))
        if self.form == "frozen" and used is not None:
            return _LerpSome.apply(new, self.conv.only(x, used), share.to(new.dtype), used)
        return torch.lerp(new, self._kept(x, used), share.to(new.dtype))

    def _kept(self, x: Tensor, used: Tensor | None = None) -> Tensor:
        """The first branch."""
        kept = self.conv(x, used)
        return kept if self.norm is None else self.norm(kept)

    @torch.no_grad()
    def merged_kernel(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that equals the eval output before the activation, in float64;
        changes nothing.

        SPEC 4: W = 1/2 s_1 W_1 + 1/2 s_2 W_2 and b likewise, where conv + norm k is x * (s_k W_k) + b_k.
        A single branch counts whole.
        """
        weight, bias = fold(self.conv, self.norm)
        if self.conv_new is None:
            return weight, bias
        weight_new, bias_new = fold(self.conv_new, self.norm_new)
        return (weight + weight_new) / 2, (bias + bias_new) / 2

    def merge_(self) -> None:
        """Become the merged form: for a teacher or for evaluation. Idempotent."""
        if self.form == "merged":
            return
        weight, bias = self.merged_kernel()
        self.to_form_("merged")
        set_kernel_(self.conv, weight, bias)

    def freeze_merged_(self, previous: "ParallelConv") -> None:
        """Become the frozen form: what `previous`, the same site a step before, learnt in both branches, merged and
        frozen, beside the own new branch as it is (SPEC 4). Idempotent."""
        weight, bias = previous.merged_kernel()
        self.to_form_("frozen")
        set_kernel_(self.conv, weight, bias)

    def to_form_(self, form: Form) -> None:
        """Take on the parameters of `form` without computing them, as before loading weights. ValueError if there
        is no way from this form to that."""
        if form != self.form and form not in BECOMES[self.form]:
            raise ValueError(f"a {self.form} convolution cannot become {form}")
        if form in ("frozen", "merged"):
            self.norm = None
            if self.conv.bias is None:
                self.conv.bias = nn.Parameter(self.conv.weight.new_zeros(self.conv.out_channels))
        if form == "merged":
            self.conv_new = self.norm_new = None
        if form == "frozen":
            self.conv.requires_grad_(False)


class _LerpSome(torch.autograd.Function):
    """torch.lerp(new, kept, share), in the memory of `new`, where `kept` (B, K, H, W) has only the channels `used`, and
    `share` (1, C, 1, 1) is 0 in the others."""

    @staticmethod
    def forward(ctx: FunctionCtx, new: Tensor, kept: Tensor, share: Tensor, used: Tensor) -> Tensor:
        ctx.save_for_backward(share, used)
        ctx.mark_dirty(new)
        mixed = torch.lerp(take_channels(new, used), kept, share[:, used])
        new.permute(0, 2, 3, 1).flatten(0, 2).index_copy_(1, used, mixed.permute(0, 2, 3, 1).flatten(0, 2))
        return new

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        share, used = ctx.saved_tensors
        return gradient * (1 - share), take_channels(gradient, used) * share[:, used], None, None


def draw_shares(channels: int, device: torch.device) -> Tensor:
    """Share of the first branch per channel, (1, C, 1, 1): 1, 0 or 1/2, a third of the draws each (SPEC 3).

    With w_1, w_2 of the paper it is w_1 / 2, and w_2 / 2 = 1 - w_1 / 2. Drawn on `device`: no transfer.
    """
    draw = torch.rand(channels, device=device)
    return (draw < 0.33).float().add_(draw >= 0.66, alpha=0.5).view(1, -1, 1, 1)
