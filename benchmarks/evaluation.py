"""The evaluation forward of ResNet-101: bare convolutions against two branches with all their norms.

python -m benchmarks.evaluation

And the scoring of whole images, 500 x 375 as most of VOC, against the convolutions in it, by a profile.
"""

from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import check, compare, device, parser, relative_difference, report
from benchmarks.networks import NUM_OLD, make_batch, make_obvious, on_device
from config import ModelConfig
from segmentation_module import SegmentationNet, build_network
from train import evaluate
from utils.distributed import Dist

CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::cudnn_convolution")


def times_the_convolutions(network: SegmentationNet, *, batch: int, repeats: int) -> float:
    """What the scoring of whole images takes, in times of its convolutions: 1 is the least."""
    images = torch.randint(0, 256, (batch, 3, 375, 500), dtype=torch.uint8)
    batches = [(images, torch.randint(0, NUM_OLD, (batch, 375, 500), dtype=torch.uint8))] * 2
    options = {"num_classes": NUM_OLD, "dist": Dist(rank=0, world_size=1, device=device()), "title": "whole images"}
    evaluate(network, batches, **options)
    found = []
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as traced:
            evaluate(network, batches, **options)
        operators = traced.key_averages()
        kind = "self_device_time_total" if device().type == "cuda" else "self_cpu_time_total"
        own = {each.key: getattr(each, kind) for each in operators}
        found.append(sum(own.values()) / sum(own.get(name, 0) for name in CONVOLUTIONS))
    return median(found)


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
        whole = times_the_convolutions(ours, batch=options.batch, repeats=options.repeats)
    report("evaluation", options.out, rows, whole_images_in_times_of_their_convolutions=whole)


if __name__ == "__main__":
    main()
