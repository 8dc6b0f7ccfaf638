"""Losses of full-size logits, a few samples at a time: what they keep for the gradient is never all there at once.

With 150 classes the logits of 24 crops of 512 are 3.8 GB in float32, and a loss makes several maps of that size. Here
the gradient is computed along with the value, and only that stays until the backward pass.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

MOST = 2**26
"""Logits that are looked at together: 256 MB in float32."""

Loss = Callable[..., Tensor]


def by_samples(loss: Loss) -> Loss:
    """`loss(logits, ...)`, which is a mean over the samples of `logits` (B, ...), and of all other tensors given by
    place; in several calls where there are many logits. Its value differs by the order of the sum."""

    @wraps(loss)
    def in_parts(logits: Tensor, *others: Any, **named: Any) -> Tensor:
        size = max(1, MOST // max(1, logits[0].numel()))
        if size >= len(logits) or not (logits.requires_grad and torch.is_grad_enabled()):
            return loss(logits, *others, **named)
        return _BySamples.apply(logits, loss, size, others, named)

    return in_parts


class _BySamples(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, loss: Loss, size: int, others: tuple, named: dict[str, Any]
    ) -> Tensor:
        # float16 has no room for gradients that are not scaled yet.
        dtype = torch.float32 if logits.dtype == torch.float16 else logits.dtype
        gradient, values = torch.empty_like(logits, dtype=dtype), []
        for start in range(0, len(logits), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                some = logits[part].detach().to(dtype).requires_grad_()
                rest = [other[part] if isinstance(other, Tensor) else other for other in others]
                value = loss(some, *rest, **named) * (len(some) / len(logits))
                (gradient[part],) = torch.autograd.grad(value, some)
            values.append(value.detach())
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return torch.stack(values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (own,) = ctx.saved_tensors
        return (own * gradient).to(ctx.dtype), None, None, None, None
