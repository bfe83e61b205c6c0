"""Whether the update by torch._foreach_* is the published one: losses of SAM and ASAM on ResNet-20 in float64, step by step. Exit code 1 if not."""
import argparse
import sys

import torch

from training import Batches, Training, Variant

STEPS = 4
CPU = torch.device("cpu")


def losses(optimizer, name):
    arguments = argparse.Namespace(model="resnet20", num_classes=10, optimizer=optimizer, lr=0.01, rho=None, batch=8, input_shape=[3, 16, 16])
    torch.manual_seed(1)
    variant = Variant.parse(name)
    training, batches = Training(arguments, variant, CPU), Batches(arguments, variant, CPU)
    return [training.step(*batches.next())[0].item() for _ in range(STEPS)]


def main():
    torch.set_default_dtype(torch.float64)
    apart = False
    for optimizer in ("sam", "asam"):
        published, foreach = losses(optimizer, "nchw"), losses(optimizer, "nchw_foreach")
        difference = max(abs(one - other) / one for one, other in zip(published, foreach))
        apart |= difference > 1e-6
        print(f"{optimizer}: {difference:.1e} relative difference of the losses in {STEPS} steps")
    sys.exit(apart)


if __name__ == "__main__":
    main()
