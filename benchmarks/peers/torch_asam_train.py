"""Times whole training steps in PyTorch with SGD, or with SAM or ASAM as published, on synthetic data.

Variants: nchw (fp32, eager), channels_last, channels_last_bf16 (autocast), and each of them compiled by torch.compile.
"""
import argparse
import contextlib
import time

import torch
import torch.nn.functional as F

import nets
import protocol
from published_asam import minimizer

LAYOUTS = ["nchw", "channels_last", "channels_last_bf16"]
VARIANTS = LAYOUTS + [f"{layout}_compiled" for layout in LAYOUTS]


def batches(count, arguments, memory_format, generator):
    """Pairs of normalised images [batch, channels, height, width] and labels [batch]."""
    return [
        (
            torch.randn(arguments.batch, *arguments.input_shape, generator=generator).to(memory_format=memory_format),
            torch.randint(arguments.num_classes, (arguments.batch,), generator=generator),
        )
        for _ in range(count)
    ]


def make_step(arguments):
    """The training step `step(images, labels) -> (loss, correct)` of the variant asked for."""
    compiled = arguments.variant.endswith("_compiled")
    layout = arguments.variant.removesuffix("_compiled")
    memory_format = torch.contiguous_format if layout == "nchw" else torch.channels_last
    model = nets.build(arguments.model, arguments.num_classes).to(memory_format=memory_format).train()
    forward = torch.compile(model) if compiled else model

    def loss_of(images, labels):
        autocast = torch.autocast("cpu", dtype=torch.bfloat16) if layout.endswith("bf16") else contextlib.nullcontext()
        with autocast:
            logits = forward(images)
        return F.cross_entropy(logits.float(), labels), logits

    base = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9, weight_decay=5e-4)
    wrapped = None if arguments.optimizer == "sgd" else minimizer(arguments.optimizer, base, model, rho=arguments.rho)

    def step(images, labels):
        loss, logits = loss_of(images, labels)
        loss.backward()
        if wrapped is None:
            base.step()
            base.zero_grad()
        else:
            wrapped.ascent_step()
            loss_of(images, labels)[0].backward()
            wrapped.descent_step()
        with torch.no_grad():
            return loss.item(), (logits.argmax(1) == labels).sum().item()

    return step, memory_format, sum(p.numel() for p in model.parameters())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20", help="one of flatmin's models that PyTorch has, too")
    parser.add_argument("--input-shape", type=lambda text: [int(size) for size in text.split(",")], default=[3, 32, 32], help="channels,height,width")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--optimizer", choices=["sgd", "sam", "asam"], default="asam")
    parser.add_argument("--variant", choices=VARIANTS, default="nchw")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--rho", type=float, default=None, help="default: 0.05 for SAM, 0.5 for ASAM")
    protocol.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)

    step, memory_format, parameters = make_step(arguments)
    pool = batches(8, arguments, memory_format, torch.Generator().manual_seed(2))
    taken = 0

    def run_steps(count):
        nonlocal taken
        times = []
        for _ in range(count):
            images, labels = pool[taken % len(pool)]
            taken += 1
            start = time.perf_counter()
            step(images, labels)
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times}

    describe = {"model": arguments.model, "optimizer": arguments.optimizer, "variant": arguments.variant, "batch": arguments.batch, "parameters": parameters}
    protocol.main(arguments, describe, run_steps)


if __name__ == "__main__":
    main()
