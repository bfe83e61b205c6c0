"""SAM as the pytorch_optimizer package runs it, and as google-research/sam does (transcribed: it is no package, and needs a JAX of its time).

Each function takes three steps on a net of make_goldens.py and gives (steps, model).
"""
import torch
import torch.nn.functional as F

from make_goldens import STEPS, backward, base_optimizer


def with_pytorch_optimizer(net, base, rho, adaptive):
    """pytorch_optimizer.SAM around torch.optim.SGD, with the package's own switch for running statistics."""
    import pytorch_optimizer
    from pytorch_optimizer import disable_running_stats, enable_running_stats

    model = net.model()
    settings = {"lr": base["lr"], "momentum": base["momentum"], "weight_decay": base["weightDecay"]}
    optimizer = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=rho, adaptive=adaptive, **settings)
    steps = []
    for t in range(STEPS):
        batch = net.batch(t)
        loss, _ = backward(model, batch)
        optimizer.first_step()
        disable_running_stats(model)
        perturbed_loss, _ = backward(model, batch)
        optimizer.second_step()
        enable_running_stats(model)
        steps.append({"loss": loss, "perturbedLoss": perturbed_loss})
    return steps, model


def as_google(net, base, rho, limit):
    """google-research/sam, from the description of its training step.

    The objective of both passes is the cross entropy + 0.5 wd sum w^2 over all parameters; eps = rho g / norm(g), without a guard; running
    statistics come from the first pass; the second gradient, decay included, is scaled down to the norm `limit` where it is longer (5 by default
    there); then Nesterov's momentum. The loss it logs is the second pass's cross entropy, without the penalty.
    """
    model = net.model()
    w = list(model.parameters())
    optimizer = base_optimizer(base | {"weightDecay": 0}, w)

    def gradient(batch):
        cross_entropy = F.cross_entropy(model.train()(batch[0]), batch[1])
        penalty = 0.5 * base["weightDecay"] * sum((x**2).sum() for x in w)
        return cross_entropy.item(), torch.autograd.grad(cross_entropy + penalty, w)

    def norm(tensors):
        return torch.sqrt(sum((x**2).sum() for x in tensors))

    steps = []
    for t in range(STEPS):
        batch = net.batch(t)
        loss, g = gradient(batch)
        statistics = {name: values.clone() for name, values in model.named_buffers()}
        saved = [x.detach().clone() for x in w]
        with torch.no_grad():
            for x, direction in zip(w, g):
                x.add_(rho * (direction / norm(g)))
        perturbed_loss, gs = gradient(batch)
        length = norm(gs)
        with torch.no_grad():
            for x, w0, direction in zip(w, saved, gs):
                x.copy_(w0)
                x.grad = direction if length < limit else (direction / length) * limit
        for name, values in model.named_buffers():
            values.copy_(statistics[name])
        optimizer.step()
        steps.append({"loss": loss, "perturbedLoss": perturbed_loss, "descentNorm": length.item()})
    return steps, model
