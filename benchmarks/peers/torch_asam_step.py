"""Times the published SAM or ASAM update alone, on the parameters of ResNet-50 (25,557,032 in 161 tensors) with synthetic gradients.

Timed is all that lies between the backward passes: perturb, clear the gradients; restore, base step, clear the gradients. Making the gradients is not timed:
they arrive as freshly allocated tensors, as a backward pass leaves them.
"""
import argparse
import time

import torch
from torch import nn

import protocol
from published_asam import minimizer


def resnet50_shapes(num_classes=1000):
    """(name, shape) of every ResNet-50 parameter, in order."""

    def norm(prefix, channels):
        return [(f"{prefix}.weight", (channels,)), (f"{prefix}.bias", (channels,))]

    shapes = [("conv1.weight", (64, 3, 7, 7)), *norm("bn1", 64)]
    in_channels = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            out_channels = 4 * width
            for index, shape in enumerate([(width, in_channels, 1, 1), (width, width, 3, 3), (out_channels, width, 1, 1)], start=1):
                shapes += [(f"{prefix}.conv{index}.weight", shape), *norm(f"{prefix}.bn{index}", shape[0])]
            if block == 0:
                shapes += [(f"{prefix}.downsample.0.weight", (out_channels, in_channels, 1, 1)), *norm(f"{prefix}.downsample.1", out_channels)]
            in_channels = out_channels
    return shapes + [("fc.weight", (num_classes, in_channels)), ("fc.bias", (num_classes,))]


class Parameters(nn.Module):
    """A module that is only its parameters, under their names (a dot may not stand in a registered name)."""

    def __init__(self, shapes, generator):
        super().__init__()
        for name, shape in shapes:
            value = torch.randn(shape, generator=generator) * 0.05
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimizer", choices=["sam", "asam"], default="asam")
    protocol.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = torch.Generator().manual_seed(1)
    model = Parameters(resnet50_shapes(), generator)
    parameters = list(model.parameters())
    gradients = [torch.randn(parameter.shape, generator=generator) * 1e-3 for parameter in parameters]
    base = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    optimizer = minimizer(arguments.optimizer, base, model)

    def give_gradients():
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()

    def timed(step):
        give_gradients()
        start = time.perf_counter()
        step()
        return (time.perf_counter() - start) * 1e3

    def run_steps(count):
        times = {"ascentMs": [], "descentMs": []}
        for _ in range(count):
            times["ascentMs"].append(timed(optimizer.ascent_step))
            times["descentMs"].append(timed(optimizer.descent_step))
        return times

    describe = {"optimizer": arguments.optimizer, "parameters": sum(p.numel() for p in parameters), "tensors": len(parameters)}
    protocol.main(arguments, describe, run_steps)


if __name__ == "__main__":
    main()
