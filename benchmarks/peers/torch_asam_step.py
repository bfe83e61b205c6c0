"""Times the SAM or ASAM update alone, as published or as the package pytorch_optimizer has it, on the parameters of ResNet-50 (25,557,032 in 161 tensors) with synthetic gradients.

Timed is all that lies between the backward passes: perturb, clear the gradients; restore, base step, clear the gradients. Making the gradients is not timed:
they arrive as freshly allocated tensors, as a backward pass leaves them.
"""
import argparse
import time

import torch
from torch import nn

import protocol
from published_asam import minimizer


class FromPackage:
    """SAM of the package pytorch_optimizer, under the names of the published code."""

    def __init__(self, name, parameters, lr, momentum, weight_decay):
        from pytorch_optimizer import SAM

        self.sam = SAM(
            parameters,
            base_optimizer=torch.optim.SGD,
            rho=0.05,
            adaptive=name == "asam",
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
        )

    def ascent_step(self):
        self.sam.first_step(zero_grad=True)

    def descent_step(self):
        self.sam.second_step(zero_grad=True)


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
    parser.add_argument("--peer", choices=["published", "pytorch_optimizer"], default="published", help="whose update (default: published)")
    protocol.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = torch.Generator().manual_seed(1)
    model = Parameters(resnet50_shapes(), generator)
    parameters = list(model.parameters())
    gradients = [torch.randn(parameter.shape, generator=generator) * 1e-3 for parameter in parameters]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    if arguments.peer == "pytorch_optimizer":
        optimizer = FromPackage(arguments.optimizer, parameters, **settings)
    else:
        optimizer = minimizer(arguments.optimizer, torch.optim.SGD(parameters, **settings), model)

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

    describe = {"peer": arguments.peer, "optimizer": arguments.optimizer, "parameters": sum(p.numel() for p in parameters), "tensors": len(parameters)}
    protocol.main(arguments, describe, run_steps)


if __name__ == "__main__":
    main()
