"""Entry points of torch.hub.

network = torch.hub.load("FOLDER OF THE CHECKOUT", "rcil", source="local", checkpoint="FILE")
network.predict("photo.jpg")
"""

import os

import segmenter

dependencies = ["torch", "torchvision", "numpy", "PIL", "matplotlib", "tqdm", "safetensors", "yaml", "filelock"]


def rcil(checkpoint: str | os.PathLike, pooling: int | None = None) -> segmenter.Segmenter:
    """The merged network of a step, of any method, from its checkpoint or safetensors FILE: see segmenter.py."""
    return segmenter.load_segmenter(checkpoint, pooling=pooling)
