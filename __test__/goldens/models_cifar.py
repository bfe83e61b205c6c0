"""The reference implementations of the zoo's models for CIFAR."""
import sys
from pathlib import Path

import torch.nn.functional as F
import torchvision
from pytorchcv.models import preresnet_cifar, pyramidnet_cifar, resnext_cifar, shakeshakeresnet_cifar, wrn_cifar
from torch import nn

import draws
from models_reference import Reference

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
import resnet_cifar  # noqa: E402  (lies with the peers, which need it, too)


def resnet(depth):
    return Reference("benchmarks/peers/resnet_cifar.py", lambda classes: resnet_cifar.build(f"resnet{depth}", classes))


class ProjectedResnet(nn.Module):
    """Torchvision's basic blocks, whose shortcuts are option B, in the three stages of He 2016, section 4.2."""

    def __init__(self, depth, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        in_channels = 16
        for stage, channels in enumerate((16, 32, 64)):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage and not index else 1
                downsample = None
                if stride == 2:
                    downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
                blocks.append(torchvision.models.resnet.BasicBlock(in_channels, channels, stride, downsample))
                in_channels = channels
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def projected_resnet(depth):
    source = "torchvision.models.resnet.BasicBlock in the stages of He 2016, section 4.2"
    return Reference(source, lambda classes: ProjectedResnet(depth, classes), ("torchvision",))


class KerasBottleneck(nn.Module):
    def __init__(self, in_channels, inner, out_channels, stride, projects):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, inner, 1)
        self.bn1 = keras_norm(inner)
        # TensorFlow's padding "same" of an even size.
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride)
        self.bn2 = keras_norm(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1)
        self.bn3 = keras_norm(out_channels)
        self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride)) if projects else nn.Identity()

    def forward(self, x):
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(self.pad(branch))))
        return F.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


def keras_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class KerasResnet(nn.Module):
    """The bottleneck ResNet-20 of docs/models.md, written from the layer table that stands there."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = keras_norm(16)
        in_channels = 16
        for stage, (inner, out_channels) in enumerate(((16, 64), (64, 128), (128, 256))):
            first = KerasBottleneck(in_channels, inner, out_channels, 2 if stage else 1, projects=True)
            second = KerasBottleneck(out_channels, inner, out_channels, 1, projects=False)
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, second))
            in_channels = out_channels
        self.bn2 = keras_norm(256)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.relu(self.bn2(x)).mean((2, 3)))


def pytorchcv(source, build, **rest):
    """A model of pytorchcv with a pooling that takes images of any size."""

    def built(classes):
        model = build(classes)
        model.features.final_pool = nn.AdaptiveAvgPool2d(1)
        return model

    return Reference(f"pytorchcv: {source}", built, ("pytorchcv",), **rest)


def wide_resnet(depth, width):
    def build(classes):
        return wrn_cifar.get_wrn_cifar(num_classes=classes, blocks=depth, width_factor=width)

    return pytorchcv(f"wrn_cifar.get_wrn_cifar(blocks={depth}, width_factor={width})", build)


def preact_resnet18(classes):
    channels = [[channels] * 2 for channels in (64, 128, 256, 512)]
    return preresnet_cifar.CIFARPreResNet(channels, init_block_channels=64, bottleneck=False, num_classes=classes)


def preact_resnet164(classes):
    return preresnet_cifar.get_preresnet_cifar(num_classes=classes, blocks=164, bottleneck=True)


def resnext29_8x64d(classes):
    return resnext_cifar.get_resnext_cifar(num_classes=classes, blocks=29, cardinality=8, bottleneck_width=64)


def with_shake_drop(model, last_p):
    """Adds ShakeDrop behind the last batch norm of each unit."""
    units = [unit for name, stage in model.features.named_children() if name.startswith("stage") for unit in stage]
    for index, unit in enumerate(units):
        # A hook, so that no name changes.
        shake_drop = draws.ShakeDrop(index, last_p * (index + 1) / len(units))
        unit.bn.register_forward_hook(lambda bn, _, output, layer=shake_drop: layer.train(bn.training)(output))
    return model


def pyramidnet(blocks, alpha, bottleneck, shake_drop=None):
    def build(classes):
        model = pyramidnet_cifar.get_pyramidnet_cifar(num_classes=classes, blocks=blocks, alpha=alpha, bottleneck=bottleneck)
        return with_shake_drop(model, shake_drop) if shake_drop else model

    source = f"pyramidnet_cifar.get_pyramidnet_cifar(blocks={blocks}, alpha={alpha}, bottleneck={bottleneck})"
    return pytorchcv(source + (" with ShakeDrop of draws.py" if shake_drop else ""), build)


def shake_shake(channels):
    def build(classes):
        model = shakeshakeresnet_cifar.get_shakeshakeresnet_cifar(
            num_classes=classes, blocks=26, bottleneck=False, first_stage_channels=channels
        )
        unit_class = shakeshakeresnet_cifar.ShakeShakeResUnit
        for index, unit in enumerate(module for module in model.modules() if isinstance(module, unit_class)):
            del unit.shake_shake
            unit.mix = draws.ShakeShake(index)
            unit.forward = lambda x, unit=unit: shake_shake_unit(unit, x)
        return model

    source = f"shakeshakeresnet_cifar.get_shakeshakeresnet_cifar(blocks=26, first_stage_channels={channels})"
    return pytorchcv(f"{source} with the mix of draws.py", build)


def shake_shake_unit(unit, x):
    identity = unit.identity_branch(x) if unit.resize_identity else x
    return F.relu(unit.mix(unit.branch1(x), unit.branch2(x)) + identity)


def densenet_bc_100_12(classes):
    model = torchvision.models.DenseNet(12, (16, 16, 16), num_init_features=24, num_classes=classes)
    model.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(model.features, name)
    return model


def vgg16_bn(classes):
    vgg = torchvision.models.vgg
    model = vgg.VGG(vgg.make_layers(vgg.cfgs["D"], batch_norm=True), num_classes=classes, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier[0] = nn.Linear(512, 512)
    model.classifier[3] = nn.Linear(512, 512)
    model.classifier[6] = nn.Linear(512, classes)
    return model


def mobilenet_v2(classes):
    stages = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    model = torchvision.models.MobileNetV2(num_classes=classes, inverted_residual_setting=stages)
    model.features[0][0].stride = (1, 1)
    return model


def without_dropout(model):
    """The masks of torch's dropout are not flatmin's; `crates/nn/tests/network.rs` tests flatmin's own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def changed(source, build, **rest):
    """A model of torchvision for small images."""
    return Reference(f"torchvision: {source}", lambda classes: without_dropout(build(classes)), ("torchvision",), **rest)


DEPTHS = (20, 32, 44, 56, 110)

MODELS = {
    **{f"resnet{depth}": resnet(depth) for depth in DEPTHS},
    **{f"resnet{depth}_b": projected_resnet(depth) for depth in DEPTHS},
    "resnet20_bottleneck": Reference("models_cifar.KerasResnet", KerasResnet),
    "preact_resnet18": pytorchcv("preresnet_cifar.CIFARPreResNet, four stages of two units", preact_resnet18),
    "preact_resnet164": pytorchcv("preresnet_cifar.get_preresnet_cifar(blocks=164, bottleneck=True)", preact_resnet164),
    **{f"wrn{depth}_{width}": wide_resnet(depth, width) for depth, width in ((16, 8), (28, 2), (28, 10), (40, 2))},
    "resnext29_8x64d": pytorchcv(
        "resnext_cifar.get_resnext_cifar(blocks=29, cardinality=8, bottleneck_width=64)", resnext29_8x64d
    ),
    "densenet_bc_100_12": changed("DenseNet(12, (16, 16, 16), 24) with a stem of one 3x3 convolution", densenet_bc_100_12),
    "densenet121": changed(
        "models.densenet121",
        lambda classes: torchvision.models.densenet121(num_classes=classes),
        input_shape=[3, 64, 64],
        num_classes=1000,
    ),
    "vgg16_bn": changed(
        "VGG of configuration D with a classifier of 512 units", vgg16_bn, input_shape=[3, 32, 32], options={"dropout": 0}
    ),
    "mobilenet_v2": changed("MobileNetV2 with three strides of 2", mobilenet_v2, options={"dropout": 0}),
    "pyramidnet110_a48": pyramidnet(110, 48, False),
    "pyramidnet110_a270": pyramidnet(110, 270, False),
    "pyramidnet272_a200_bottleneck": pyramidnet(272, 200, True, shake_drop=0.5),
    "shake_shake26_2x32d": shake_shake(32),
    "shake_shake26_2x96d": shake_shake(96),
}
