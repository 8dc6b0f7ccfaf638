"""Numbers that several packages share."""

IGNORE_INDEX = 255
"""Label of pixels that no loss and no score looks at."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
