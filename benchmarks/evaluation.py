"""The evaluation forward of ResNet-101: bare convolutions against two branches with all their norms.

python -m benchmarks.evaluation
"""

import torch

from benchmarks.harness import check, compare, device, parser, relative_difference, report
from benchmarks.networks import NUM_OLD, make_batch, make_obvious, on_device
from config import ModelConfig
from segmentation_module import build_network


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--crops", type=int, nargs="+", default=[256, 512])
    options.add_argument("--batch", type=int, default=2)
    options = options.parse_args()
    config = ModelConfig(no_pretrained=True)
    torch.manual_seed(0)
    network = build_network(config, branches=2, classes_per_head=(NUM_OLD,))
    spelled_out = make_obvious(config, network, (NUM_OLD,))
    ours = network.for_inference().to(device())
    dual = network.eval().requires_grad_(False).place_(device(), torch.float32)
    rows = []
    with torch.inference_mode():
        for crop in options.crops:
            images = on_device(make_batch(crop, options.batch)).images
            expected = spelled_out(images)[0]
            difference = check("logits", relative_difference(ours(images).logits, expected), 1e-4)
            for name, other in (("the obvious form", spelled_out), ("our own two branches", dual)):
                rows.append(
                    compare(
                        f"{options.batch} x {crop}, against {name}",
                        lambda other=other, images=images: other(images),
                        lambda images=images: ours(images),
                        repeats=options.repeats,
                        difference=difference,
                    )
                )
    report("evaluation", options.out, rows)


if __name__ == "__main__":
    main()
