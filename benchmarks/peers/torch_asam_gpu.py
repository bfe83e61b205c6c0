"""Times whole training steps in PyTorch on a GPU, from ASAM as published to the best that PyTorch can do, and says which is the best.

Each variant adds one thing: channels-last with bfloat16 autocast, the update by torch._foreach_*, torch.compile, a CUDA graph of both passes and the update,
both together. They run one after the other, each in a process of its own; `flatmin bench train --device cuda --peer` runs them in turns with flatmin.
`--device cpu` runs the same code where there is no GPU; variants that need one are skipped by name.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

import protocol
import training
from training import PUBLISHED, Variant

VARIANTS = [
    PUBLISHED,
    "channels_last_bf16",
    "channels_last_bf16_foreach",
    "channels_last_bf16_foreach_compiled",
    "channels_last_bf16_foreach_graph",
    "channels_last_bf16_foreach_compiled_graph",
]


def measure(variant, device, arguments):
    """The result of one variant; what cannot run is told, not fatal."""
    if reason := variant.why_not_on(device):
        return {"variant": variant.name, "skipped": reason}
    print(f"{variant.name}...", file=sys.stderr, flush=True)
    script = Path(__file__).with_name("torch_asam_train.py")
    child = subprocess.run([sys.executable, script, "--variant", variant.name, "--device", str(device), *arguments], capture_output=True, text=True)
    if child.returncode != 0:
        return {"variant": variant.name, "error": child.stderr.strip()[-2000:]}
    result = json.loads(child.stdout)
    return {**result, "imagesPerSecond": 1e3 * result["batch"] / result["ms"]["median"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="Further options are those of torch_asam_train.py.")
    parser.add_argument("--device", type=torch.device, default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--variants", type=lambda names: [Variant.parse(name) for name in names.split(",")], default=",".join(VARIANTS), help=f"default: {','.join(VARIANTS)}")
    arguments, further = parser.parse_known_args()
    if arguments.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here; --device cpu runs the same code without one")
    checked = argparse.ArgumentParser()
    training.add_arguments(checked)
    protocol.add_arguments(checked)
    checked.parse_args(further)

    results = [measure(variant, arguments.device, further) for variant in arguments.variants]
    timed = [result for result in results if "ms" in result]
    best = min(timed, key=lambda result: result["ms"]["median"])["variant"] if timed else None
    protocol.emit({"device": str(arguments.device), "best": best, "variants": results})


if __name__ == "__main__":
    main()
