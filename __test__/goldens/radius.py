"""Prints what one rho means to each T_w: the table of docs/presets.md, on ResNet-20 as the golden runs start it.

usage: "$(benchmarks/peers/venv.sh)" __test__/goldens/radius.py      (from the root; a few seconds)
"""
import torch

import reference
from make_goldens import Net, backward

RHO = 0.5
WRAPPERS = {
    "SAM": ("SAM", "paper", "none"), "paper": ("ASAM", "paper", "element"), "paper, filter": ("ASAM", "paper", "filter"),
    "samsung-example": ("ASAM", "samsung-example", "element"), "davda54": ("ASAM", "davda54", "element"),
}


def perturbation(wrapper):
    """eps of the first step by parameter name, and how far it raises the loss of the batch."""
    net = Net("resnet20")
    model, batch = net.model(), net.batch(0)
    parameters = dict(model.named_parameters())
    start = {name: x.detach().clone() for name, x in parameters.items()}
    loss, _ = backward(model, batch)
    reference.wrapper(*wrapper, parameters, RHO).ascent()
    eps = {name: x.detach() - start[name] for name, x in parameters.items()}
    return eps, backward(model, batch)[0] - loss


def main():
    torch.set_num_threads(1)
    print("| T_w of | norm2(eps) | on convolutions | on gammas | on biases and betas | rise of the loss |\n|---|---|---|---|---|---|")
    for name, wrapper in WRAPPERS.items():
        eps, rise = perturbation(wrapper)
        kinds = (
            lambda key, x: True, lambda key, x: x.dim() == 4,
            lambda key, x: x.dim() == 1 and key.endswith("weight"), lambda key, x: key.endswith("bias"),
        )
        norms = [torch.sqrt(sum((x**2).sum() for key, x in eps.items() if kind(key, x))).item() for kind in kinds]
        print(f"| {name} | " + " | ".join(f"{norm:.3f}" for norm in norms) + f" | {rise:.2f} |")


if __name__ == "__main__":
    main()
