"""The reference implementations of the zoo's models for CIFAR."""
import sys
from pathlib import Path

from pytorchcv.models import wrn_cifar
from torch import nn

from models_reference import Reference

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
import resnet_cifar  # noqa: E402  (lies with the peers, which need it, too)


def global_pool(model):
    """pytorchcv's model with a pooling that takes images of any size."""
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return model


def pytorchcv(source, build, **rest):
    return Reference(f"pytorchcv: {source}", lambda classes: global_pool(build(classes)), ("pytorchcv",), **rest)


def resnet(depth):
    return Reference("benchmarks/peers/resnet_cifar.py", lambda classes: resnet_cifar.build(f"resnet{depth}", classes))


def wide_resnet(depth, width):
    def build(classes):
        return wrn_cifar.get_wrn_cifar(num_classes=classes, blocks=depth, width_factor=width)

    return pytorchcv(f"wrn_cifar.get_wrn_cifar(blocks={depth}, width_factor={width})", build)


MODELS = {
    **{f"resnet{depth}": resnet(depth) for depth in (20, 32, 44, 56, 110)},
    **{f"wrn{depth}_{width}": wide_resnet(depth, width) for depth, width in ((16, 8), (28, 2), (28, 10), (40, 2))},
}
