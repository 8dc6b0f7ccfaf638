"""fp32, or mixed precision."""

from contextlib import AbstractContextManager

import torch


class Precision:
    """fp32, or mixed precision: bfloat16 where the device has it, else float16 with loss scaling."""

    def __init__(self, device: torch.device, *, mixed: bool) -> None:
        brain = device.type != "cuda" or torch.cuda.is_bf16_supported()
        self.device_type = device.type
        self.mixed = mixed
        self.dtype = torch.bfloat16 if brain else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=mixed and not brain)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.mixed)

    @property
    def activations(self) -> torch.dtype:
        """What the activations of a forward pass have."""
        return self.dtype if self.mixed else torch.float32
