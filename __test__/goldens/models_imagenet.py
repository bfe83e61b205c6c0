"""The reference implementations of the zoo's models for ImageNet."""
from torchvision import models

from models_reference import Reference


def torchvision(name):
    return Reference(
        f"torchvision.models.{name}",
        lambda classes: getattr(models, name)(num_classes=classes),
        ("torchvision",),
        input_shape=[3, 64, 64],
        num_classes=1000,
    )


RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")

MODELS = {name: torchvision(name) for name in RESNETS}
