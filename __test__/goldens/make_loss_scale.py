"""Writes loss-scale.json: how the scale of PyTorch's GradScaler moves when gradients of some steps are infinite.

usage: "$(benchmarks/peers/venv.sh)" __test__/goldens/make_loss_scale.py      (from the root; a few seconds)
"""
import json
from pathlib import Path

import torch

CASES = [
    {"options": {}, "infinite": [0, 1, 4], "steps": 12},
    {"options": {"initial": 1024.0, "growthInterval": 3}, "infinite": [2, 9, 10], "steps": 24},
    {"options": {"initial": 3.7, "growthFactor": 1.3, "backoffFactor": 0.7, "growthInterval": 2}, "infinite": [1, 6], "steps": 20},
    # The last float32 below infinity is not left.
    {"options": {"initial": 2.0**126, "growthInterval": 1}, "infinite": [5], "steps": 10},
]
NAMES = {"initial": "init_scale", "growthFactor": "growth_factor", "backoffFactor": "backoff_factor", "growthInterval": "growth_interval"}


def scales(options, infinite, steps):
    """The scale before each step of a run with one weight."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", **{NAMES[name]: value for name, value in options.items()})
    found = []
    for step in range(steps):
        # Made at the first scaling.
        scaler.scale(weight.sum())
        found.append(scaler.get_scale())
        weight.grad = torch.full_like(weight, float("inf") if step in infinite else 1.0)
        scaler.step(optimizer)
        scaler.update()
    return found


def main():
    cases = [{"options": case["options"], "infinite": case["infinite"], "scales": scales(**case)} for case in CASES]
    path = Path(__file__).parent / "loss-scale.json"
    path.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
