"""Goldens of decoding, scaling and augmentation, computed by Pillow and torchvision.

    python crates/data/tests/goldens/make_augment.py [PHOTOS] > crates/data/tests/goldens/augment.json

needs torchvision and Pillow. PHOTOS is the folder of sample photographs. The small picture of the operations comes from the
formula below, which the tests know, too; results are base64 of uint8, [height, width, channels].
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy
import PIL
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, functional
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy, RandAugment, TrivialAugmentWide, _apply_op

HEIGHT, WIDTH = 13, 18
# Length of the shorter side, and side of the centre.
FRAMES = [(36, 32), (70, 48)]
PHOTOS = 4


def picture():
    y, x, c = numpy.meshgrid(numpy.arange(HEIGHT), numpy.arange(WIDTH), numpy.arange(3), indexing="ij")
    return ((y * 16 + x * (5 + 3 * c) + (x * y * (c + 1)) % 23 * 4) % 256 * (200 - 30 * c) // 255 + 20).astype(numpy.uint8)


def pack(image):
    return base64.b64encode(numpy.ascontiguousarray(image)).decode()


def operations():
    image = Image.fromarray(picture())
    cases = []

    def add(name, value, result):
        cases.append({"op": name, "value": value, "pixels": pack(result)})

    values = {
        "ShearX": [0.2, -0.3], "ShearY": [0.25, -0.9], "TranslateX": [3.7, -5.0], "TranslateY": [2.0, -4.9],
        "Rotate": [17.0, -30.0, 120.5], "Brightness": [0.6, -0.4], "Color": [0.9, -0.9], "Contrast": [0.7, -0.5],
        "Sharpness": [0.9, -0.9], "Posterize": [2.0, 5.0], "Solarize": [85.0, 255.0], "AutoContrast": [0.0],
        "Equalize": [0.0], "Invert": [0.0],
    }
    for name, each in values.items():
        for value in each:
            add(name, value, _apply_op(image, name, value, InterpolationMode.NEAREST, None))
    for value in (0.1, -0.35):
        add("Hue", value, functional.adjust_hue(image, value))
    return cases


def magnitudes():
    """What every numbered magnitude means, for a picture of 224 x 100."""
    spaces = {
        "auto": AutoAugment()._augmentation_space(10, (224, 100)),
        "rand": RandAugment()._augmentation_space(31, (224, 100)),
        "trivial": TrivialAugmentWide()._augmentation_space(31),
    }
    return {
        space: {name: table.tolist() for name, (table, _) in ops.items() if table.ndim > 0} for space, ops in spaces.items()
    }


def policies():
    sets = {"cifar10": AutoAugmentPolicy.CIFAR10, "imagenet": AutoAugmentPolicy.IMAGENET, "svhn": AutoAugmentPolicy.SVHN}
    return {name: AutoAugment(policy).policies for name, policy in sets.items()}


def crops(folder):
    files = sorted(Path(folder).glob("*/*.JPEG"))
    results = []
    for path in files[:: len(files) // PHOTOS][:PHOTOS]:
        for resize, crop in FRAMES:
            image = Compose([Resize(resize), CenterCrop(crop)])(Image.open(path).convert("RGB"))
            name = "/".join(path.parts[-2:])
            results.append({"photo": name, "resize": resize, "crop": crop, "pixels": pack(image)})
    return results


def encoded():
    """Files of the kinds that photographs come in, and how Pillow reads them."""
    image = Image.fromarray(numpy.asarray(picture()).repeat(3, 0).repeat(3, 1))
    cases = []

    def add(name, picture, **options):
        file = io.BytesIO()
        picture.save(file, **options)
        pixels = numpy.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
        cases.append({"name": name, "file": base64.b64encode(file.getvalue()).decode(), "pixels": pack(pixels)})

    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        add(f"jpeg {subsampling}", image, format="JPEG", quality=80, subsampling=subsampling)
    add("jpeg with restarts", image, format="JPEG", quality=60, restart_marker_blocks=3)
    add("jpeg progressive", image, format="JPEG", quality=80, progressive=True)
    add("jpeg grey", image.convert("L"), format="JPEG", quality=80)
    add("jpeg cmyk", image.convert("CMYK"), format="JPEG", quality=90)
    add("png palette", image.quantize(32), format="PNG")
    add("webp lossless", image, format="WEBP", lossless=True)
    return cases


if __name__ == "__main__":
    goldens = {
        "made by": f"torchvision {torchvision.__version__}, Pillow {PIL.__version__}",
        "operations": operations(),
        "magnitudes": magnitudes(),
        "policies": policies(),
        "encoded": encoded(),
        "crops": crops(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/imagenet-sample"),
    }
    print(json.dumps(goldens))
