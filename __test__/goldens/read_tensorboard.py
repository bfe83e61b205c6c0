"""Reads the TensorBoard files of a run folder with TensorBoard's own reader and compares every value with what the folder's events.jsonl and steps.jsonl tell.

usage, from the root:
    python -m venv .cache/tensorboard && .cache/tensorboard/bin/pip install tensorboard 'setuptools<81'
    node bin/flatmin.js train --epochs 20 --optimizer asam --validation 0.1 --tensorboard --run-dir runs/tensorboard
    .cache/tensorboard/bin/python __test__/goldens/read_tensorboard.py runs/tensorboard
"""
import json
import sys
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCH = {
    "loss": "train.loss",
    "accuracy": "train.accuracy",
    "sharpness": "sharpness",
    "generalization_gap": "generalizationGap",
    "learning_rate": "lr",
    "rho": "rho",
    "momentum": "momentum",
    "images_per_second": "imagesPerSecond",
    "seconds": "seconds",
    "memory_bytes": "memoryBytes",
    "skipped_steps": "skippedSteps",
}
STEP = {
    "loss": "loss",
    "accuracy": "accuracy",
    "sharpness": "sharpness",
    "learning_rate": "lr",
    "rho": "rho",
    "momentum": "momentum",
    "gradient_norm": "gradientNorm",
    "images_per_second": "imagesPerSecond",
}


def value_at(event, path):
    for key in path.split("."):
        event = (event or {}).get(key)
    return event


def compare(found, expected, name):
    """Both are {step: value}; what the run told must be what TensorBoard reads, as float32."""
    assert found, f"{name}: no values"
    for step, value in expected.items():
        assert step in found and np.float32(value) == np.float32(found[step]), f"{name}: {value} was told at step {step}, read {found.get(step)}"
    return len(expected)


def main(run_dir):
    lines = lambda name: [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
    events, steps = lines("events.jsonl"), lines("steps.jsonl")
    start = next(event for event in events if event["type"] == "start")
    epochs = {min(event["epoch"] * start["stepsPerEpoch"], start["steps"]): event for event in events if event["type"] == "epoch"}
    told = {step: event for event in steps for step in [event["step"]]}
    compared = {}
    for split in sorted(path.name for path in (run_dir / "tensorboard").iterdir()):
        reader = EventAccumulator(str(run_dir / "tensorboard" / split), size_guidance={"scalars": 0})
        reader.Reload()
        for tag in reader.Tags()["scalars"]:
            found = {event.step: event.value for event in reader.Scalars(tag)}
            assert len(found) == len(reader.Scalars(tag)), f"{split}/{tag}: a step lies there twice"
            kind, name = tag.split("/")
            source, path = (told, STEP[name]) if kind == "step" else (epochs, EPOCH[name] if split == "train" else f"{split}.{name}")
            known = {step: value_at(event, path) for step, event in source.items() if kind == "epoch" or step in found}
            known = {step: value for step, value in known.items() if value is not None}
            assert kind == "step" or set(known) == set(found), f"{split}/{tag}: other steps than the run told"
            compared[f"{split}/{tag}"] = compare(found, known, f"{split}/{tag}")
    for name, count in compared.items():
        print(f"{name}: {count} values equal")
    assert {"train/epoch/loss", "train/step/loss"} <= set(compared)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
