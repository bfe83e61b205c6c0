"""Makes the golden values that `crates/analysis/tests/resnet20.rs` compares with: sharpness and curvature of a trained ResNet-20, computed by PyTorch.

usage, from the root:
    "$(benchmarks/peers/venv.sh)" __test__/goldens/make_sharpness.py resnet20-cifar10.safetensors cifar-10-batches-bin   (about a minute)
`--images 1000 --out FILE` gives values for more images, `--dtype float32` those of the dtype that models have; FLATMIN_GOLDEN=FILE makes the test take that file.
A plain transcription of the definitions: T_w, the ball and its projection as in Kwon 2021 and docs/sharpness.md, one tensor after another.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from make_goldens import HERE, render, resnet_cifar, versions
from reference import element_scale, filter_scale, invariant_filter_scale, invariant_scale, no_scale

BATCH = 250
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# With the options that flatmin is given for the same.
SCALES = {
    "none": (no_scale, {"scale": "none"}),
    "element": (invariant_scale, {"scale": "element", "adaptive": "all"}),
    "element, eta 0.01": (element_scale(0.01), {"scale": "element", "adaptive": "weights", "eta": 0.01}),
    "filter": (invariant_filter_scale, {"scale": "filter", "adaptive": "all"}),
    "filter, eta 0.01": (filter_scale(0.01), {"scale": "filter", "adaptive": "weights", "eta": 0.01}),
}
RADII = {"none": [0.02, 0.1], "element": [0.1, 0.3], "element, eta 0.01": [0.05, 0.2], "filter": [0.01, 0.05], "filter, eta 0.01": [0.01, 0.05]}
# Lengths in the maximum norm are those in the 2-norm divided by the root of the number of weights, about.
INF = 520


def read_safetensors(path):
    """The tensors of a file: eight bytes of length, a JSON header, then the numbers."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"F32": np.float32, "I64": np.int64}
    entries = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}

    def read(entry):
        first, last = (start + offset for offset in entry["data_offsets"])
        return torch.from_numpy(np.frombuffer(data[first:last], kinds[entry["dtype"]]).reshape(entry["shape"]).copy())

    return {name: read(entry) for name, entry in entries.items()}


def test_images(folder, count, dtype):
    """The first `count` test images, [count, 3, 32, 32] normalised, and their labels."""
    records = np.fromfile(Path(folder) / "test_batch.bin", dtype=np.uint8, count=count * 3073).reshape(count, 3073)
    pixels = torch.from_numpy(records[:, 1:].reshape(count, 3, 32, 32).copy()).to(torch.float32) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels - mean) / std).to(dtype), torch.from_numpy(records[:, 0].astype(np.int64))


class Ball:
    """norm_p(u) <= rho in the coordinates u of eps = T_w u, T_w frozen at w."""

    def __init__(self, model, images, labels, scale, p):
        self.model, self.images, self.labels, self.p = model, images, labels, p
        self.names = [name for name, _ in model.named_parameters()]
        self.weights = [parameter.detach().clone() for parameter in model.parameters()]
        self.scales = [scale(name, weight) for name, weight in zip(self.names, self.weights)]

    def move(self, u):
        with torch.no_grad():
            for parameter, weight, scale, part in zip(self.model.parameters(), self.weights, self.scales, u):
                parameter.copy_(weight + scale * part)

    def loss(self, gradient=True):
        """Mean loss, accuracy and, with respect to u, its gradient."""
        self.model.zero_grad()
        total, right = 0.0, 0
        with torch.set_grad_enabled(gradient):
            for start in range(0, len(self.labels), BATCH):
                labels = self.labels[start : start + BATCH]
                logits = self.model(self.images[start : start + BATCH])
                loss = F.cross_entropy(logits.double(), labels, reduction="sum") / len(self.labels)
                if gradient:
                    loss.backward()
                total += loss.item()
                right += (logits.argmax(1) == labels).sum().item()
        h = [scale * parameter.grad for parameter, scale in zip(self.model.parameters(), self.scales)] if gradient else None
        return total, right / len(self.labels), h

    def direction(self, h):
        """The u of norm_p 1 along which the loss rises most."""
        if self.p == "inf":
            return [torch.sign(part) for part in h]
        q = self.p / (self.p - 1)
        norm = sum((part.double().abs() ** q).sum() for part in h) ** (1 / q)
        return [torch.sign(part) * (part.abs() / norm.to(part.dtype)) ** (q - 1) for part in h]

    def norm(self, u):
        if self.p == "inf":
            return max(part.abs().max().item() for part in u)
        return sum((part.double().abs() ** self.p).sum() for part in u).item() ** (1 / self.p)

    def project(self, u, rho):
        if self.p == "inf":
            return [part.clamp(-rho, rho) for part in u]
        return [part * min(1.0, rho / self.norm(u)) for part in u]

    def worst(self, rho, steps, step_size):
        """Losses and accuracies at the points of an ascent: the first step has length rho, the others step_size rho."""
        self.move([torch.zeros_like(weight) for weight in self.weights])
        h = self.loss()[2]
        u = [rho * part for part in self.direction(h)]
        found = []
        for step in range(1, steps + 1):
            self.move(u)
            loss, accuracy, h = self.loss(step < steps)
            found.append({"loss": loss, "accuracy": accuracy, "norm": self.norm(u)})
            if step < steps:
                u = self.project([a + step_size * rho * b for a, b in zip(u, self.direction(h))], rho)
        self.move([torch.zeros_like(weight) for weight in self.weights])
        return found


def case(model, images, labels, name, p, steps):
    scale, ball = SCALES[name]
    search = Ball(model, images, labels, scale, p)
    clean, accuracy, _ = search.loss(False)
    radii = [rho / INF if p == "inf" else rho for rho in RADII[name]]
    points = []
    for rho in radii:
        found = search.worst(rho, steps, 0.5)
        best = max(found, key=lambda point: point["loss"])
        points.append({"sharpness": best["loss"] - clean, "accuracy": best["accuracy"], "norm": best["norm"], "curve": [0.0] + [point["loss"] - clean for point in found]})
    options = {"method": "oneStep" if steps == 1 else "ascent", "rho": radii, "steps": steps, "restarts": 0, "ball": ball | {"p": p}}
    return {"options": options, "loss": clean, "accuracy": accuracy, "points": points}


def largest_eigenvalue(model, images, labels, iterations=60):
    """By power iteration, with the norm of the residual."""
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) for parameter in parameters]
    loss = F.cross_entropy(model(images).double(), labels)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    for _ in range(iterations):
        norm = sum((part * part).sum() for part in vector).sqrt()
        vector = [part / norm for part in vector]
        image = torch.autograd.grad(gradients, parameters, vector, retain_graph=True)
        value = sum((a * b).sum() for a, b in zip(image, vector)).item()
        residual = sum(((a - value * b) ** 2).sum() for a, b in zip(image, vector)).sqrt().item()
        vector = [part.detach() for part in image]
    return {"value": value, "residual": residual}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("images_folder")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--only", nargs="+", choices=SCALES, default=list(SCALES), help="scales to make cases of")
    parser.add_argument("--out", type=Path, default=HERE / "sharpness-resnet20.json")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    model = resnet_cifar.build("resnet20")
    model.load_state_dict(read_safetensors(options.weights))
    model.to(dtype).eval()
    images, labels = test_images(options.images_folder, options.images, dtype)
    cases = {}
    for name in options.only:
        for p, steps in [(2, 1), (2, 5)] + ([("inf", 1), (3, 1), ("inf", 3)] if name in ("none", "element") else []):
            cases[f"{name}, p {p}, {steps} steps"] = case(model, images, labels, name, p, steps)
            print(name, p, steps, [point["sharpness"] for point in cases[f"{name}, p {p}, {steps} steps"]["points"]], flush=True)
    document = {
        "about": "Golden values made by make_sharpness.py; see README.md. Do not edit.",
        "versions": versions(),
        "dtype": options.dtype,
        "images": options.images,
        "cases": cases,
    }
    if options.images <= BATCH:
        document["eigenvalue"] = largest_eigenvalue(model, images, labels)
    options.out.write_text(render(document) + "\n")
    print(f"{options.out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
