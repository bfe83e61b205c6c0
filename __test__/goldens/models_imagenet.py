"""The reference implementations of the zoo's models for ImageNet. What they draw at random is switched off: no two libraries draw the same."""
import timm
from torchvision import models

from models_reference import Reference


def torchvision(name, options=None, **settings):
    return Reference(
        f"torchvision.models.{name}",
        lambda classes: getattr(models, name)(num_classes=classes, **settings),
        ("torchvision",),
        input_shape=[3, 64, 64],
        num_classes=1000,
        options=options or {},
    )


# Its positions depend on the size of the image, so its parameters are counted at the size it is made for.
VIT = Reference(
    "timm.models.vit_small_patch16_224",
    lambda classes: timm.create_model("vit_small_patch16_224", num_classes=classes, img_size=64 if classes == 10 else 224),
    ("timm",),
    input_shape=[3, 64, 64],
    num_classes=1000,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")

MODELS = {name: torchvision(name) for name in RESNETS} | {
    "efficientnet_b0": torchvision("efficientnet_b0", {"dropout": 0, "stochasticDepth": 0}, dropout=0, stochastic_depth_prob=0),
    "convnext_tiny": torchvision("convnext_tiny", {"stochasticDepth": 0}, stochastic_depth_prob=0),
    "vit_s_16": VIT,
}
