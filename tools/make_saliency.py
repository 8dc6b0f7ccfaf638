"""Draw a saliency map for each training image of a data set: `python tools/make_saliency.py data/voc`.

A map is what SSUL takes for unknown: saliency_map/NAME.png, not 0 where an image stands out. These ones know nothing of
any label: OpenCV's fine-grained saliency, in two parts by the threshold of Otsu. They are coarser than those of the
published runs, which come from a network that was trained on labelled objects; any other maps can lie there instead.
Maps that are there stay as they are.
"""

import sys
from functools import partial
from pathlib import Path

from PIL import Image

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig
from dataset import DATASETS, SALIENCY
from dataset.index import map_in_threads
from dataset.reading import read_image
from utils.errors import UserError, exit_code
from utils.files import atomic_write
from utils.options import ToolParser, a_path


def make_saliency(root: Path, dataset: str) -> int:
    """How many maps were drawn. UserError where OpenCV or the data set is missing."""
    try:
        from cv2 import saliency  # noqa: F401
    except ImportError:
        raise UserError("OpenCV's saliency is not installed: pip install opencv-contrib-python-headless") from None
    spec = DATASETS[dataset](DataConfig(data_root=root))
    images = [sample.image for sample in spec.list_samples(root, "train")]
    missing = [image for image in images if not (root / SALIENCY / f"{image.stem}.png").is_file()]
    (root / SALIENCY).mkdir(exist_ok=True)
    map_in_threads(partial(_draw, root), missing, "saliency maps")
    return len(missing)


def _draw(root: Path, image: Path) -> None:
    import cv2  # an optional package: see above

    pixels = read_image(image).permute(1, 2, 0).numpy()[..., ::-1].copy()
    done, found = cv2.saliency.StaticSaliencyFineGrained_create().computeSaliency(pixels)
    if not done:
        raise UserError(f"OpenCV finds no saliency in {image}; leave it out, or draw its map by hand")
    _, mask = cv2.threshold((found * 255).astype("uint8"), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    with atomic_write(root / SALIENCY / f"{image.stem}.png") as file:
        Image.fromarray(mask).save(file, format="PNG")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Draw a saliency map for each training image of a data set.")
    parser.add_argument("root", type=a_path, help="folder of the data set")
    parser.add_argument("--dataset", choices=DATASETS, default="voc", help="its layout (default: voc)")
    return exit_code(_draw_and_say, vars(parser.parse_args(arguments)))


def _draw_and_say(options: dict) -> None:
    count = make_saliency(**options)
    print(f"{options['root'] / SALIENCY}: {count} maps drawn")


if __name__ == "__main__":
    sys.exit(main())
