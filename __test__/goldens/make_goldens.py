"""Makes the golden values that `__test__/goldens.test.ts` compares with: three float64 training steps of each optimizer, run by PyTorch.

usage: "$(benchmarks/peers/venv.sh)" __test__/goldens/make_goldens.py      (from the root; about half a minute)
Base optimizers are torch.optim's own; the sharpness-aware wrappers stand in reference.py, the starting numbers in formula.py.
"""
import json
import platform
import sys
from collections import OrderedDict
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import formula
import reference

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks" / "peers"))
import resnet_cifar  # noqa: E402  (lies with the peers, which need it, too)

STEPS = 3
SGD = {"type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 5e-4}
BASES = {
    "sgd": {"type": "sgd", "lr": 0.1},
    "sgd-momentum": SGD,
    "sgd-nesterov": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "weightDecay": 1e-3, "nesterov": True},
    "sgd-dampening": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.5},
    "adam": {"type": "adam", "lr": 2e-3, "weightDecay": 1e-2},
    # A larger eps than the default, or the rounding noise that is the gradient of conv2.bias would move it by 1e-10.
    "adamw": {"type": "adamw", "lr": 2e-3, "betas": [0.8, 0.99], "eps": 1e-6, "weightDecay": 5e-2},
}


def small_net():
    """[16, 3, 8, 8] -> [16, 5]; a convolution's bias before batch norm included, whose gradient is zero but for rounding."""
    layers = OrderedDict(
        conv1=nn.Conv2d(3, 6, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(6), relu1=nn.ReLU(),
        conv2=nn.Conv2d(6, 8, 3, stride=2, padding=1), bn2=nn.BatchNorm2d(8), relu2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(8, 5),
    )
    return nn.Sequential(layers)


class Net:
    """One of the nets with the batches it is fed; `start` is "plain" or, for gradients of about 1e-5, "confident"."""

    def __init__(self, name, start="plain"):
        self.name, self.start = name, start
        self.build, self.shape, self.num_classes = {
            "small": (small_net, [16, 3, 8, 8], 5),
            "resnet20": (lambda: resnet_cifar.build("resnet20"), [8, 3, 32, 32], 10),
        }[name]

    def model(self):
        model = self.build().double()
        model.load_state_dict({name: formula.tensor_value(name, tuple(value.shape)) for name, value in model.state_dict().items()})
        if self.start == "confident":
            with torch.no_grad():
                model.linear.bias[0] += 13
        return model

    def batch(self, step):
        images = formula.images(step, self.shape)
        if self.start == "confident":
            return images, torch.zeros(self.shape[0], dtype=torch.int64)
        return images, formula.labels(step, self.shape[0], self.num_classes)

    def keep(self, name, values):
        """What the golden file holds of a tensor: all of it for the small net, a summary for ResNet-20."""
        return formula.summary(name, values) if self.name == "resnet20" else values.detach().reshape(-1).tolist()

    def keep_all(self, tensors):
        return {name: self.keep(name, values) for name, values in tensors.items()}


def base_optimizer(options, parameters):
    """torch.optim's optimizer for flatmin's options."""
    common = {"lr": options["lr"], "weight_decay": options.get("weightDecay", 0), "foreach": False}
    if options["type"] == "sgd":
        extra = {key: options[key] for key in ("momentum", "dampening", "nesterov") if key in options}
        return torch.optim.SGD(parameters, **common, **extra)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options["type"]]
    return kind(parameters, **common, betas=tuple(options.get("betas", (0.9, 0.999))), eps=options.get("eps", 1e-8))


def backward(model, batch):
    """Mean cross entropy of one pass in training mode, gradients in `.grad`."""
    model.zero_grad()
    logits = model.train()(batch[0])
    loss = F.cross_entropy(logits, batch[1])
    loss.backward()
    return loss.item(), logits


def gradient_norm(parameters):
    return torch.sqrt(sum((parameter.grad**2).sum() for parameter in parameters.values())).item()


@torch.no_grad()
def eval_logits(model, net):
    logits = model.eval()(net.batch(0)[0])
    return logits.reshape(-1).tolist()


def run_case(net, base, sharpness=None):
    """Three steps; what a wrapper's first step did is kept in full."""
    model = net.model()
    parameters = dict(model.named_parameters())
    optimizer = base_optimizer(base, list(parameters.values()))
    wrapper = sharpness and reference.wrapper(sharpness["method"], sharpness["preset"], sharpness["scale"], parameters, sharpness["rho"])
    case = {"start": net.start, "base": base, "sharpness": sharpness, "steps": []}
    for step in range(STEPS):
        batch = net.batch(step)
        loss, _ = backward(model, batch)
        record = {"loss": loss, "gradientNorm": gradient_norm(parameters)}
        if wrapper:
            wrapper.ascent()
            statistics = {name: values.clone() for name, values in model.named_buffers()}
            record["perturbedLoss"], _ = backward(model, batch)
            if step == 0:
                case["perturbedGradient"] = net.keep_all({name: parameter.grad for name, parameter in parameters.items()})
            if not wrapper.both_passes_update_statistics:
                for name, values in model.named_buffers():
                    values.copy_(statistics[name])
            wrapper.restore()
        optimizer.step()
        case["steps"].append(record)
    case["parameters"] = net.keep_all({name: parameter.detach() for name, parameter in parameters.items()})
    case["statistics"] = net.keep_all({name: values for name, values in model.named_buffers() if "running" in name})
    case["batchesTracked"] = int(model.bn1.num_batches_tracked)
    case["evalLogits"] = eval_logits(model, net)
    return case


def start_values(net):
    """One forward and backward from the start: what a float32 model is compared with, too."""
    model = net.model()
    logits = eval_logits(model, net)
    loss, train_logits = backward(model, net.batch(0))
    gradient = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {
        "evalLogits": logits, "trainLogits": train_logits.detach().reshape(-1).tolist(), "loss": loss,
        "gradientNorm": gradient_norm(dict(model.named_parameters())), "gradient": net.keep_all(gradient),
    }


def formula_sample(net):
    """A few starting numbers, so that a test can first tell whether its formula is this one."""
    values = {name: value for name, value in net.model().state_dict().items() if value.is_floating_point()} | {"images/0": net.batch(0)[0]}
    return {name: value.reshape(-1)[[0, -1]].tolist() for name, value in values.items()} | {"labels/0": net.batch(0)[1].tolist()}


def asam(preset, rho, scale="element"):
    return {"method": "ASAM", "preset": preset, "scale": scale, "rho": rho}


def sam(preset, rho):
    return {"method": "SAM", "preset": preset, "scale": "none", "rho": rho}


WRAPPERS = {
    "sam-paper": sam("paper", 0.1), "sam-samsung": sam("samsung", 0.1), "sam-davda54": sam("davda54", 0.1),
    "asam-paper": asam("paper", 0.5), "asam-invariant": asam("invariant", 0.5), "asam-samsung": asam("samsung", 0.5),
    "asam-samsung-example": asam("samsung-example", 0.5), "asam-davda54": asam("davda54", 1.0),
    "asam-filter": asam("paper", 0.5, "filter"), "asam-invariant-filter": asam("invariant", 0.5, "filter"),
}


def small_cases():
    plain, confident = Net("small"), Net("small", "confident")
    cases = {name: run_case(plain, base) for name, base in BASES.items()}
    cases |= {f"{name}/sgd-momentum": run_case(plain, SGD, sharpness) for name, sharpness in WRAPPERS.items()}
    for base in ("sgd-nesterov", "adam", "adamw"):
        cases[f"asam-paper/{base}"] = run_case(plain, BASES[base], WRAPPERS["asam-paper"])
    # Gradients of about 1e-5: a guard of 1e-12 then changes the perturbed loss by 1e-8, so that these cases tell the guards apart.
    for name in ("asam-paper", "asam-invariant", "asam-davda54", "sam-davda54"):
        cases[f"confident/{name}/sgd-momentum"] = run_case(confident, SGD, WRAPPERS[name])
    return cases


def resnet_cases():
    net = Net("resnet20")
    sgd = {**SGD, "lr": 0.02}
    cases = {"sgd-momentum": run_case(net, sgd)}
    return cases | {f"{name}/sgd-momentum": run_case(net, sgd, sharpness) for name, sharpness in WRAPPERS.items() if name.count("-") == 1}


def render(value, indent=""):
    """JSON with one line for each list and each leaf, so that a change of a golden reads as a diff."""
    if not isinstance(value, dict):
        return json.dumps(value)
    inner = indent + " "
    entries = ",\n".join(f"{inner}{json.dumps(key)}: {render(entry, inner)}" for key, entry in value.items())
    return "{\n" + entries + "\n" + indent + "}"


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}


def write(name, net, cases):
    document = {
        "about": "Golden values in float64, made by make_goldens.py; see README.md. Do not edit.",
        "versions": versions(),
        "shape": net.shape,
        "numClasses": net.num_classes,
        "formula": formula_sample(net),
        "initial": start_values(net),
        "cases": cases,
    }
    path = HERE / name
    path.write_text(render(document) + "\n")
    print(f"{path}: {len(cases)} cases, {path.stat().st_size / 1e6:.2f} MB")


def main():
    # One thread, so that sums are taken in one order and the files come out the same again.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    write("small-net.json", Net("small"), small_cases())
    write("resnet20.json", Net("resnet20"), resnet_cases())


if __name__ == "__main__":
    main()
