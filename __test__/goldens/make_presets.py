"""Makes the golden values of the presets that follow other published implementations: three float64 steps, run by those implementations.

usage, from the root, with the packages of requirements.txt installed:
    python -m venv .cache/goldens && .cache/goldens/bin/pip install -r __test__/goldens/requirements.txt
    .cache/goldens/bin/python __test__/goldens/make_presets.py      (about a minute)
`base`, `method` and `options` of a case are what flatmin is given for the same.
"""
import importlib.metadata
from collections import OrderedDict

import torch
from torch import nn

import published_torch
from make_goldens import HERE, SGD, Net, eval_logits, formula_sample, render, versions

NESTEROV = {"type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 1e-3, "nesterov": True}
LIBRARIES = ("pytorch_optimizer", "optax", "jax", "tensorflow", "tf_keras")


def plain_net():
    """[16, 3, 8, 8] -> [16, 5] without batch norm."""
    layers = OrderedDict(
        conv1=nn.Conv2d(3, 6, 3, padding=1), relu1=nn.ReLU(), conv2=nn.Conv2d(6, 8, 3, stride=2, padding=1), relu2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(8, 5),
    )
    return nn.Sequential(layers)


class PlainNet(Net):
    def __init__(self):
        super().__init__("small")
        self.build = plain_net


def case(net, source, base, method, options, ran):
    """What a run left, and what flatmin is to be given for the same."""
    steps, model = ran
    return {
        "source": source, "base": base, "method": method, "options": options, "steps": steps,
        "parameters": net.keep_all({name: x.detach() for name, x in model.named_parameters()}),
        "statistics": net.keep_all({name: values for name, values in model.named_buffers() if "running" in name}),
        "evalLogits": eval_logits(model, net),
    }


def torch_cases(net, lr):
    sgd = {**SGD, "lr": lr}
    # Decay in the loss and clipping at 5 are the preset's; another clipping is the base optimizer's own.
    google = {**NESTEROV, "lr": lr}
    clipped = google | {"clip": {"norm": 0.5, "guard": 0}}
    transcribed = "google-research/sam, transcribed"
    package = f"pytorch_optimizer {importlib.metadata.version('pytorch_optimizer')}"
    run = published_torch
    return {
        "google": case(net, transcribed, google, "SAM", {"preset": "google", "rho": 0.1}, run.as_google(net, google, 0.1, 5)),
        "google/clipped": case(net, transcribed, clipped, "SAM", {"preset": "google", "rho": 0.1}, run.as_google(net, clipped, 0.1, 0.5)),
        "pytorch_optimizer": case(
            net, package, sgd, "SAM", {"preset": "pytorch_optimizer", "rho": 0.1}, run.with_pytorch_optimizer(net, sgd, 0.1, False)
        ),
        "pytorch_optimizer/adaptive": case(
            net, package, sgd, "ASAM", {"preset": "pytorch_optimizer", "rho": 1.0}, run.with_pytorch_optimizer(net, sgd, 1.0, True)
        ),
    }


def optax_cases(net):
    from published_optax import with_optax

    source = f"optax {importlib.metadata.version('optax')}"
    return {
        f"optax/sync-period-{period}": case(
            net, source, SGD, "SAM", {"preset": "optax", "rho": 0.1, "innerSteps": period - 1}, with_optax(net, SGD, 0.1, period)
        )
        for period in (2, 3)
    }


def keras_cases(net):
    from published_keras import check_batch_norm, with_keras

    check_batch_norm(Net("small"))
    source = f"tf_keras {importlib.metadata.version('tf_keras')}"
    # Sums of powers of two: Keras takes momentum and weight decay through float32 even when its weights are float64.
    base = {"type": "sgd", "lr": 0.125, "momentum": 0.875, "weightDecay": 2**-11, "decay": "decoupled"}
    options = {"preset": "keras", "rho": 0.1}
    return {
        "keras": case(net, source, base, "SAM", options, with_keras(net, base, 0.1, None)),
        "keras/2-splits": case(net, source, base, "SAM", options | {"microBatch": 8}, with_keras(net, base, 0.1, 2)),
    }


def write(name, net, cases):
    document = {
        "about": "Golden values in float64, made by make_presets.py; see README.md. Do not edit.",
        "versions": versions() | {library: importlib.metadata.version(library) for library in LIBRARIES},
        "shape": net.shape,
        "numClasses": net.num_classes,
        "formula": formula_sample(net),
        "cases": cases,
    }
    path = HERE / name
    path.write_text(render(document) + "\n")
    print(f"{path}: {len(cases)} cases, {path.stat().st_size / 1e6:.2f} MB")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    small, plain, resnet = Net("small"), PlainNet(), Net("resnet20")
    write("presets-small-net.json", small, torch_cases(small, 0.1) | optax_cases(small))
    write("presets-plain-net.json", plain, keras_cases(plain))
    write("presets-resnet20.json", resnet, torch_cases(resnet, 0.02))


if __name__ == "__main__":
    main()
