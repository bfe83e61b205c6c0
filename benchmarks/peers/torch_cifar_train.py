"""Trains a CIFAR ResNet on CIFAR-10 in PyTorch with SGD, or with SAM or ASAM as published, and prints the test accuracy as one JSON line.

The settings are those of `flatmin train`: the accuracies of the two at equal settings and several seeds are compared, not their trajectories.
"""
import argparse
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import protocol
import resnet_cifar
from published_asam import minimizer

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1)
RECORD = 1 + 3 * 32 * 32
PAD = 4


def read_split(folder, files):
    """Images [n, 3, 32, 32] of bytes and labels [n] from CIFAR-10 binary files."""
    records = np.concatenate([np.fromfile(folder / name, dtype=np.uint8) for name in files]).reshape(-1, RECORD)
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(records[:, 0].astype(np.int64))


def read_cifar10(folder):
    """(train, test); accepts the folder of the files or the one above it."""
    folder = Path(folder)
    if (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    return read_split(folder, [f"data_batch_{i}.bin" for i in range(1, 6)]), read_split(folder, ["test_batch.bin"])


def normalise(images):
    return (images.float() / 255 - MEAN) / STD


def augment(images, generator):
    """A random 32x32 crop of each image padded with 4 black pixels, mirrored with probability 1/2."""
    count = images.shape[0]
    padded = F.pad(images, (PAD, PAD, PAD, PAD))
    top, left = torch.randint(2 * PAD + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    span = torch.arange(32)
    rows = top[:, None] + span
    columns = left[:, None] + torch.where(mirrored[:, None], span.flip(0), span)
    return padded[torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


@torch.no_grad()
def evaluate(model, images, labels, memory_format, batch=500):
    """Mean loss and accuracy in eval mode."""
    model.eval()
    loss, correct = 0.0, 0
    for start in range(0, len(labels), batch):
        target = labels[start : start + batch]
        logits = model(normalise(images[start : start + batch]).contiguous(memory_format=memory_format))
        loss += F.cross_entropy(logits, target, reduction="sum").item()
        correct += (logits.argmax(1) == target).sum().item()
    return {"loss": loss / len(labels), "accuracy": correct / len(labels), "count": len(labels)}


def train(arguments, model, images, labels, memory_format):
    """The whole training: a new order each epoch, the last short batch kept, lr a linear warm-up and then a half cosine over the steps down to 0."""
    generator = torch.Generator().manual_seed(arguments.seed)
    base = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9, weight_decay=5e-4)
    wrapped = None if arguments.optimizer == "sgd" else minimizer(arguments.optimizer, base, model, rho=arguments.rho, eta=arguments.eta)
    per_epoch = math.ceil(len(labels) / arguments.batch)
    total, step = arguments.epochs * per_epoch, 0
    if arguments.max_steps:
        total = min(total, arguments.max_steps)
    warmup = round(arguments.warmup_epochs * per_epoch)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    for epoch in range(arguments.epochs):
        model.train()
        loss_sum, seen, started = 0.0, 0, time.perf_counter()
        for chosen in torch.randperm(len(labels), generator=generator).split(arguments.batch):
            if step == total:
                break
            for group in base.param_groups:
                group["lr"] = arguments.lr * factor(step)
            batch = normalise(augment(images[chosen], generator)).contiguous(memory_format=memory_format)
            target = labels[chosen]
            loss = F.cross_entropy(model(batch), target)
            loss.backward()
            if wrapped is None:
                base.step()
                base.zero_grad()
            else:
                wrapped.ascent_step()
                F.cross_entropy(model(batch), target).backward()
                wrapped.descent_step()
            loss_sum, seen, step = loss_sum + loss.item() * len(target), seen + len(target), step + 1
        if seen:
            print(f"epoch {epoch + 1}: loss {loss_sum / seen:.4f}, {seen / (time.perf_counter() - started):.0f} images/s", file=sys.stderr, flush=True)
    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True, help="folder of the CIFAR-10 binary files")
    parser.add_argument("--model", choices=list(resnet_cifar.BLOCKS), default="resnet20")
    parser.add_argument("--optimizer", choices=["sgd", "sam", "asam"], default="asam")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--warmup-epochs", type=float, default=0.2, help="default: 0.2, a tenth of 2 epochs as flatmin has it")
    parser.add_argument("--rho", type=float, default=None, help="default: 0.05 for SAM, 0.5 for ASAM")
    parser.add_argument("--eta", type=float, default=0.01)
    parser.add_argument("--layout", choices=["nchw", "channels_last"], default="channels_last", help="the faster layout by default: it changes no accuracy")
    parser.add_argument("--max-steps", type=int, default=None, help="stop after so many steps, for a quick try")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    memory_format = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
    (train_images, train_labels), (test_images, test_labels) = read_cifar10(arguments.data_dir)
    model = resnet_cifar.build(arguments.model).to(memory_format=memory_format)
    started = time.perf_counter()
    steps = train(arguments, model, train_images, train_labels, memory_format)
    seconds = time.perf_counter() - started
    test = evaluate(model, test_images, test_labels, memory_format)
    protocol.emit(
        {
            "model": arguments.model, "optimizer": arguments.optimizer, "epochs": arguments.epochs, "seed": arguments.seed, "steps": steps,
            "test": test, "seconds": seconds, "threads": torch.get_num_threads(), "peakRssBytes": protocol.peak_rss_bytes(), "versions": protocol.versions(),
        }
    )


if __name__ == "__main__":
    main()
