"""Times whole training steps in PyTorch with SGD, or with SAM or ASAM as published, on synthetic data: one variant, on the CPU or on a GPU.

Variant `nchw` is the published code: fp32, eager, loops over tensors. Others add channels_last, _bf16 (autocast), _foreach (the update over all tensors in
each call), _compiled (torch.compile) and _graph (both passes and the update in one CUDA graph).
"""
import argparse

import torch

import protocol
import training
from training import PUBLISHED, Batches, CapturedStep, Training, Variant


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    training.add_arguments(parser)
    parser.add_argument("--variant", type=Variant.parse, default=PUBLISHED, help=f"default: {PUBLISHED}")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    protocol.add_arguments(parser)
    arguments = parser.parse_args()
    variant, device = arguments.variant, arguments.device
    if reason := variant.why_not_on(device):
        protocol.emit({"variant": variant.name, "error": reason})
        return
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True

    net = Training(arguments, variant, device)
    batches = Batches(arguments, variant, device)
    step = training.read_back(net.step) if variant.name == PUBLISHED else net.step
    if variant.graph:
        step = CapturedStep(step, *batches.next())

    describe = {
        "model": arguments.model, "optimizer": arguments.optimizer, "variant": variant.name, "batch": arguments.batch, "parameters": net.parameters,
        "device": str(device), "hardware": protocol.hardware(device),
    }
    if device.type == "cuda":
        describe["tf32"] = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    protocol.main(arguments, describe, lambda count: {"ms": training.timed_steps(step, batches, count, device)})


if __name__ == "__main__":
    main()
