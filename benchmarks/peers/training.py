"""What the peers of whole training steps share: variants by name, synthetic batches, the step and how it is timed."""
import argparse
import contextlib
import re
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import foreach_asam
import nets
import published_asam

PUBLISHED = "nchw"
"""Nothing but what the published code does."""

NAME = re.compile(r"(nchw|channels_last)(_bf16)?(_foreach)?(_compiled)?(_graph)?")


@dataclass(frozen=True)
class Variant:
    """How a step is run. Its name lists what differs from the published code, in the order of the fields."""

    name: str
    memory_format: torch.memory_format
    bf16: bool
    """Forward passes under bfloat16 autocast."""
    foreach: bool
    """The update runs by torch._foreach_*, over all tensors in each call."""
    compiled: bool
    """The net goes through torch.compile."""
    graph: bool
    """Both passes and the update are captured as one CUDA graph."""

    @classmethod
    def parse(cls, name):
        match = NAME.fullmatch(name)
        if match is None:
            expected = "nchw or channels_last, then _bf16, _foreach, _compiled, _graph, each or none, in this order"
            raise argparse.ArgumentTypeError(f"unknown variant '{name}': expected {expected}")
        layout, *switches = match.groups()
        return cls(name, torch.contiguous_format if layout == "nchw" else torch.channels_last, *map(bool, switches))

    def why_not_on(self, device):
        """Why this variant cannot run on a device, or None."""
        return "a CUDA graph needs a GPU" if self.graph and device.type != "cuda" else None


def add_arguments(parser):
    """The options that say what is trained."""
    parser.add_argument("--model", default="resnet20", help="a model of flatmin's zoo")
    parser.add_argument("--input-shape", type=lambda text: [int(size) for size in text.split(",")], default=[3, 32, 32], help="channels,height,width")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--optimizer", choices=["sgd", "sam", "asam"], default="asam")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--rho", type=float, default=None, help="default: 0.05 for SAM, 0.5 for ASAM")


class Batches:
    """A few synthetic batches that lie on the device, one after the other for ever."""

    def __init__(self, arguments, variant, device, count=8):
        generator = torch.Generator().manual_seed(2)
        self._pool = [
            (
                torch.randn(arguments.batch, *arguments.input_shape, generator=generator).to(device, memory_format=variant.memory_format),
                torch.randint(arguments.num_classes, (arguments.batch,), generator=generator).to(device),
            )
            for _ in range(count)
        ]
        self._taken = 0

    def next(self):
        """Normalised images [batch, channels, height, width] and labels [batch]."""
        self._taken += 1
        return self._pool[self._taken % len(self._pool)]


class Training:
    """A net and its optimizer; `step` makes one step, everything of the variant but the graph."""

    def __init__(self, arguments, variant, device):
        self._device = device
        self._variant = variant
        model = nets.build(arguments.model, arguments.num_classes).to(device, memory_format=variant.memory_format).train()
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self._forward = torch.compile(model) if variant.compiled else model
        self._base = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9, weight_decay=5e-4)
        self._wrapped = None
        if arguments.optimizer != "sgd":
            forms = (foreach_asam if variant.foreach else published_asam).FORMS
            self._wrapped = published_asam.minimizer(arguments.optimizer, self._base, model, rho=arguments.rho, forms=forms)

    def _loss(self, images, labels):
        autocast = torch.autocast(self._device.type, dtype=torch.bfloat16) if self._variant.bf16 else contextlib.nullcontext()
        with autocast:
            logits = self._forward(images)
        return F.cross_entropy(logits.float(), labels), logits

    def step(self, images, labels):
        """Mean loss and number of right answers at w, as tensors on the device."""
        loss, logits = self._loss(images, labels)
        loss.backward()
        if self._wrapped is None:
            self._base.step()
            self._base.zero_grad()
        else:
            self._wrapped.ascent_step()
            self._loss(images, labels)[0].backward()
            self._wrapped.descent_step()
        with torch.no_grad():
            return loss.detach(), (logits.argmax(1) == labels).sum()


class CapturedStep:
    """A step as one CUDA graph, replayed over fixed input. The learning rate is captured as the number that it is: one that follows a schedule costs more."""

    def __init__(self, step, images, labels, warmup=4):
        self._images = images.clone()
        self._labels = labels.clone()
        # Buffers of the optimizer, cuDNN's choices and compiled code come into being before the capture, away from the default stream.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmup):
                step(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = step(self._images, self._labels)

    def __call__(self, images, labels):
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._result


def read_back(step):
    """`step`, with loss and count brought to the host each time, as the published training loop does."""

    def reading(images, labels):
        loss, correct = step(images, labels)
        return loss.item(), correct.item()

    return reading


def timed_steps(step, batches, count, device):
    """Milliseconds of `count` steps: by events where the device works behind the host, else by the clock."""
    if device.type != "cuda":
        return [_clocked(step, batches.next()) for _ in range(count)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        step(*batches.next())
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in zip(marks, marks[1:])]


def _clocked(step, batch):
    start = time.perf_counter()
    step(*batch)
    return (time.perf_counter() - start) * 1e3
