"""Makes the golden values that `crates/nn/tests/models.rs` compares the zoo with: logits, loss and gradients of the reference
implementations, float64, evaluating and training.

usage: "$(benchmarks/peers/venv.sh models)" __test__/goldens/make_models.py [MODEL...]      (from the root)
The references stand in models_cifar.py and models_imagenet.py, the starting numbers in formula.py.
"""
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import formula
import models_cifar
import models_imagenet

FOLDER = Path(__file__).parent / "models"
BATCH = 2
REFERENCES = models_cifar.MODELS | models_imagenet.MODELS


def rounded(values):
    """Far more digits than the test asks for; shorter files than with all of them."""
    return [float(f"{value:.12e}") for value in values]


def gradient_summary(gradients):
    """Root mean square of each gradient and its projection on a formula vector, in the order of the names."""
    rms, projection = [], []
    for name in sorted(gradients):
        flat = gradients[name].detach().contiguous().reshape(-1).numpy()
        rms.append(np.linalg.norm(flat) / flat.size**0.5)
        projection.append(formula.uniform(f"projection/{name}", flat.size) @ flat / flat.size**0.5)
    return {"rms": rounded(rms), "projection": rounded(projection)}


def one_pass(model, rename, batch, train):
    """Logits, mean cross entropy and gradients of one forward and backward pass."""
    model.train(train).zero_grad()
    logits = model(batch[0])
    loss = F.cross_entropy(logits, batch[1])
    loss.backward()
    gradients = {rename(name): parameter.grad for name, parameter in model.named_parameters()}
    return {"logits": rounded(logits.reshape(-1).tolist()), "loss": loss.item(), "gradient": gradient_summary(gradients)}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def golden(reference):
    shape, num_classes = reference.input_shape, 10
    options = {"numClasses": num_classes, "inputShape": shape, **reference.options}
    model = reference.build(num_classes).double()
    shapes = {reference.rename(name): tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({
        name: formula.tensor_value(reference.rename(name), tuple(value.shape)) for name, value in model.state_dict().items()
    })
    batch = formula.images(0, [BATCH, *shape]), formula.labels(0, BATCH, num_classes)
    entries = "\n".join(f"{name} {'x'.join(map(str, shapes[name]))}" for name in sorted(shapes))
    return {
        "about": "Golden values in float64, made by make_models.py; see README.md. Do not edit.",
        "source": reference.source,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *reference.packages)},
        "parameters": count(reference.build(reference.num_classes)),
        "options": options,
        "entries": formula.fnv1a32(entries),
        # Running statistics are those of the formula in the first pass, and no longer matter in the second.
        "eval": one_pass(model, reference.rename, batch, train=False),
        "train": one_pass(model, reference.rename, batch, train=True),
    }


def render(document):
    """JSON with a line for each entry of the document."""
    return "{\n" + ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in document.items()) + "\n}\n"


def main():
    # One thread, so that sums are taken in one order and the files come out the same again.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or REFERENCES:
        path = FOLDER / f"{name}.json"
        path.write_text(render(golden(REFERENCES[name])))
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
