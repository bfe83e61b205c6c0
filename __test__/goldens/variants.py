"""Makes variants.json: three float64 training steps of every variant and option of the sharpness-aware family, on the small net.

usage: "$(benchmarks/peers/venv.sh)" __test__/goldens/variants.py      (from the root; about ten seconds)
One formula is one function here, written out tensor by tensor from its paper; nothing is shared with flatmin but the starting numbers of
formula.py. g is the gradient at w, gs that at w + eps, G what the base optimizer is given, h = T_w g.

| method | source |
|---|---|
| eps, p-norms | Foret et al. 2021 (arXiv 2010.01412), equation 2; Kwon et al. 2021 (arXiv 2102.11600), equation 9 |
| every k-th step | SAM with `interval` of MosaicML's Composer; the first of k steps is the two-pass one |
| part of the batch | Bahri et al. 2022 (arXiv 2110.08529): the ascent sees a share of the batch, the descent all of it |
| m-sharpness | Foret et al. 2021, section 4; Andriushchenko and Flammarion 2022 (arXiv 2206.06232) |
| SAM-ON | Mueller et al. 2023 (arXiv 2306.04226): only normalisation layers are perturbed, and only they count in the norm |
| MSAM | Becker et al. 2024 (arXiv 2401.12033), Algorithm 1 |
| GSAM | Zhuang et al. 2022 (arXiv 2203.08065), Algorithm 1 |
| LookSAM | Liu et al. 2022 (arXiv 2203.02714), Algorithm 1, norms over all parameters jointly |
| ESAM | Du et al. 2022 (arXiv 2110.03141), Algorithm 1; with beta = 1 nothing is random |
| RST, G-RST | Zhao et al. 2022 (arXiv 2203.09962); c = 1 / p makes the expected G that of SAM |
| WSAM | Yue et al. 2023 (arXiv 2305.15817), section 3 |
| F-SAM | Li et al. 2024 (arXiv 2403.12350), Algorithm 1 |
| extragradient | Korpelevich 1976: the look-ahead point is w - lr g |
| decoupled decay | Loshchilov and Hutter 2019 (arXiv 1711.05101), Algorithm 1 |

GSAM, WSAM (both forms) and F-SAM agree with the classes of pytorch_optimizer 4.1.0 to 1e-12 once that package's norm is kept in float64.
"""
import contextlib
import itertools

import torch
import torch.nn.functional as F

import formula
from make_goldens import HERE, SGD, STEPS, Net, base_optimizer, eval_logits, formula_sample, render, versions

NO_DECAY = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
ADAMW = {"type": "adamw", "lr": 2e-3, "eps": 1e-6, "weightDecay": 5e-2}


def is_norm(name):
    return name.startswith("bn")


class Run:
    """The small net with its base optimizer: gradients where the weights stand, and steps with a given gradient."""

    def __init__(self, base, groups=(), accumulate=None):
        self.net, self.base, self.accumulate = Net("small"), base, accumulate
        self.model = self.net.model()
        self.w = dict(self.model.named_parameters())
        # Each parameter's own settings: the base optimizer's, changed by the first group that names it.
        self.own = {name: base | next((group for group in groups if name in group["parameters"]), {}) for name in self.w}
        in_optimizer = base.get("decay", "optimizer") == "optimizer" or base["type"] == "adamw"
        self.optimizers = {
            name: base_optimizer(own | {"weightDecay": own.get("weightDecay", 0) if in_optimizer else 0}, [self.w[name]])
            for name, own in self.own.items()
        }

    def gradient(self, batch, statistics, mode="batch"):
        """The mean cross entropy and its gradient, where the weights stand now.

        `statistics`: whether this pass updates batch norm's running statistics. `mode`: normalise by the "batch" or by "running" statistics.
        With `accumulate` the batch goes through in micro-batches of so many samples, weighted by their count, and each normalises on its own.
        """
        kept = {name: values.clone() for name, values in self.model.named_buffers()}
        self.model.train(mode == "batch")
        total, loss, g = len(batch[1]), 0.0, {name: torch.zeros_like(x) for name, x in self.w.items()}
        for images, labels in parts(batch, self.accumulate or total):
            share = len(labels) / total
            part_loss = F.cross_entropy(self.model(images), labels)
            part_g = dict(zip(self.w, torch.autograd.grad(part_loss, list(self.w.values()))))
            loss, g = loss + share * part_loss.item(), combine((1, g), (share, part_g))
        if not statistics:
            for name, values in self.model.named_buffers():
                values.copy_(kept[name])
        if self.base.get("decay") == "loss":
            g = {name: g[name] + self.own[name].get("weightDecay", 0) * self.w[name].detach() for name in g}
        return loss, g

    @contextlib.contextmanager
    def at(self, eps):
        """Inside, the weights are w + eps; afterwards they are w again, bit for bit."""
        saved = {name: parameter.detach().clone() for name, parameter in self.w.items()}
        with torch.no_grad():
            for name, parameter in self.w.items():
                parameter.add_(eps[name])
        yield
        with torch.no_grad():
            for name, parameter in self.w.items():
                parameter.copy_(saved[name])

    def step(self, G):
        """The base optimizer's step with the gradient G: clipped first, if asked for."""
        if clip := self.base.get("clip"):
            G = clipped(G, clip)
        for name, parameter in self.w.items():
            own = self.own[name]
            if self.base.get("decay") == "decoupled" and self.base["type"] == "sgd":
                with torch.no_grad():
                    parameter.mul_(1 - own["lr"] * own["weightDecay"])
            parameter.grad = G[name].clone()
            self.optimizers[name].step()


# Operations on batches and on dictionaries of tensors.


def parts(batch, size):
    images, labels = batch
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def dot(a, b):
    return sum((a[name] * b[name]).sum() for name in a)


def norm(a):
    return torch.sqrt(dot(a, a))


def combine(*terms):
    """The sum of factor * tensors over (factor, tensors) pairs."""
    return {name: sum(factor * tensors[name] for factor, tensors in terms) for name in terms[0][1]}


def clipped(g, clip):
    """As torch.nn.utils.clip_grad_norm_: scaled down to the norm `clip["norm"]` where it is larger."""
    factor = torch.clamp(clip["norm"] / (norm(g) + clip["guard"]), max=1.0)
    return combine((factor, g))


# The ascent.


def scales(w, eta=None, filters=False):
    """T_w: 1 everywhere (eta None), or |w| + eta on weights and 1 on biases; with `filters` norm2 + eta of each filter and linear row."""
    T = {name: torch.ones_like(x) if eta is None or name.endswith("bias") else x.detach().abs() + eta for name, x in w.items()}
    if filters:
        for name, x in w.items():
            if x.dim() > 1:
                for row, values in zip(T[name], x.detach()):
                    row.fill_(torch.sqrt((values**2).sum()) + eta)
    return T


def ascent(g, T, rho, p=2.0, parameters=None, own=None, guard=0.0):
    """eps = rho T sign(h) |h|^(q-1) / (norm_q(h)^(q-1) + guard), h = T g, 1/p + 1/q = 1; `parameters` alone are perturbed and counted.

    `own` holds the settings of each parameter: its own rho, and `perturb` false leaves it out.
    """
    own = own or {}
    names = [name for name in (parameters or g) if own.get(name, {}).get("perturb", True)]
    q = 1.0 if p == "inf" else p / (p - 1)
    h = {name: T[name] * g[name] for name in names}
    total = sum((h[name].abs() ** q).sum() for name in names) ** (1 / q)
    eps = {name: torch.zeros_like(g[name]) for name in g}
    for name in names:
        radius = own.get(name, {}).get("rho", rho)
        eps[name] = radius * T[name] * torch.sign(h[name]) * h[name].abs() ** (q - 1) / (total ** (q - 1) + guard)
    return eps


def sam(run, batch, rho=0.1, eta=None, p=2.0, parameters=None, clip=None, guard=0.0, batch_norm="first", filters=False):
    """The two passes of SAM or ASAM: loss, g, loss at w + eps, gs."""
    mode = "running" if batch_norm == "frozen" else "batch"
    loss, g = run.gradient(batch, statistics=batch_norm != "frozen", mode=mode)
    used = clipped(g, clip) if clip else g
    with run.at(ascent(used, scales(run.w, eta, filters), rho, p, parameters, run.own, guard)):
        perturbed_loss, gs = run.gradient(batch, statistics=batch_norm == "both", mode=mode)
    return loss, g, perturbed_loss, gs


# The variants. Each gives a function (t, batch) -> (loss, perturbed loss or None), which takes step t.


def plain_sam(run, **rules):
    def step(t, batch):
        loss, _, perturbed_loss, gs = sam(run, batch, **rules)
        run.step(gs)
        return loss, perturbed_loss

    return step


def base_only(run, batch):
    loss, g = run.gradient(batch, statistics=True)
    run.step(g)
    return loss, None


def every_k(run, k, **rules):
    whole = plain_sam(run, **rules)
    return lambda t, batch: whole(t, batch) if t % k == 0 else base_only(run, batch)


def part_of_batch(run, share, **rules):
    """eps from the first part of the batch; the whole batch at w + eps feeds the running statistics."""

    def step(t, batch):
        images, labels = batch
        count = round(share * len(labels))
        _, g = run.gradient((images[:count], labels[:count]), statistics=False)
        with run.at(ascent(g, scales(run.w, rules.get("eta")), rules["rho"], own=run.own)):
            perturbed_loss, gs = run.gradient(batch, statistics=True)
        run.step(gs)
        return None, perturbed_loss

    return step


def m_sharpness(run, m, **rules):
    """One perturbation for each micro-batch of m samples; gradients averaged, weighted by sample count."""

    def step(t, batch):
        total = len(batch[1])
        results = [(len(part[1]) / total, sam(run, part, **rules)) for part in parts(batch, m)]
        run.step(combine(*[(share, gs) for share, (_, _, _, gs) in results]))
        return sum(share * loss for share, (loss, _, _, _) in results), sum(share * loss for share, (_, _, loss, _) in results)

    return step


def inner_steps(run, count, rho, eta=None):
    """`count` ascent steps of length rho, each from where it stands; T_w frozen at w."""

    def step(t, batch):
        loss, g = run.gradient(batch, statistics=True)
        T = scales(run.w, eta)
        eps = ascent(g, T, rho)
        for _ in range(count - 1):
            with run.at(eps):
                _, g = run.gradient(batch, statistics=False)
            eps = combine((1, eps), (1, ascent(g, T, rho)))
        with run.at(eps):
            perturbed_loss, gs = run.gradient(batch, statistics=False)
        run.step(gs)
        return loss, perturbed_loss

    return step


def gsam(run, alpha, **rules):
    """G = gs - alpha (g - (<g, gs> / norm(gs)^2) gs)."""

    def step(t, batch):
        loss, g, perturbed_loss, gs = sam(run, batch, **rules)
        across = combine((1, g), (-dot(g, gs) / dot(gs, gs), gs))
        run.step(combine((1, gs), (-alpha, across)))
        return loss, perturbed_loss

    return step


def looksam(run, alpha, k, **rules):
    """Every k-th step G = gs, and gv = gs - (<g, gs> / norm(g)^2) g is kept; else G = g + alpha (norm(g) / norm(gv)) gv."""
    kept = {}

    def step(t, batch):
        if t % k == 0:
            loss, g, perturbed_loss, gs = sam(run, batch, **rules)
            kept.update(combine((1, gs), (-dot(g, gs) / dot(g, g), g)))
            run.step(gs)
            return loss, perturbed_loss
        loss, g = run.gradient(batch, statistics=True)
        run.step(combine((1, g), (alpha * norm(g) / norm(kept), kept)))
        return loss, None

    return step


def esam(run, gamma, **rules):
    """beta = 1: eps as in SAM; G from the share gamma of the samples whose loss rises most, a batch of their own for batch norm."""

    def losses(batch):
        kept = {name: values.clone() for name, values in run.model.named_buffers()}
        with torch.no_grad():
            result = F.cross_entropy(run.model.train()(batch[0]), batch[1], reduction="none")
        for name, values in run.model.named_buffers():
            values.copy_(kept[name])
        return result

    def step(t, batch):
        before = losses(batch)
        loss, g = run.gradient(batch, statistics=True)
        with run.at(ascent(g, scales(run.w, rules.get("eta")), rules["rho"], own=run.own)):
            rise = losses(batch) - before
            chosen = torch.sort(torch.argsort(rise, descending=True)[: int(gamma * len(rise))]).values
            _, gs = run.gradient((batch[0][chosen], batch[1][chosen]), statistics=False)
        run.step(gs)
        return loss, None

    return step


def rst(run, coins, c=1.0, **rules):
    """SAM steps where the coin says so, with G = (1 - c) g + c gs (c = 1: RST); else the base optimizer alone."""

    def step(t, batch):
        if not coins[t]:
            return base_only(run, batch)
        loss, g, perturbed_loss, gs = sam(run, batch, **rules)
        run.step(combine((1 - c, g), (c, gs)))
        return loss, perturbed_loss

    return step


def wsam_coupled(run, c, **rules):
    """G = ((1 - 2c) / (1 - c)) g + (c / (1 - c)) gs."""

    def step(t, batch):
        loss, g, perturbed_loss, gs = sam(run, batch, **rules)
        run.step(combine(((1 - 2 * c) / (1 - c), g), (c / (1 - c), gs)))
        return loss, perturbed_loss

    return step


def wsam_decoupled(run, c, **rules):
    """The base optimizer steps with g; the sharpness is taken off beside it: w -= lr (c / (1 - c)) (gs - g)."""

    def step(t, batch):
        loss, g, perturbed_loss, gs = sam(run, batch, **rules)
        run.step(g)
        with torch.no_grad():
            for name, parameter in run.w.items():
                parameter.sub_(run.own[name]["lr"] * c / (1 - c) * (gs[name] - g[name]))
        return loss, perturbed_loss

    return step


def fsam(run, sigma, smoothing, **rules):
    """d = g - sigma m; m = smoothing m + (1 - smoothing) g; eps along d. The first step: m = g, and eps along g."""
    m = {}

    def step(t, batch):
        loss, g = run.gradient(batch, statistics=True)
        d = combine((1, g), (-sigma, m)) if m else g
        m.update(combine((smoothing, m), (1 - smoothing, g)) if m else g)
        with run.at(ascent(d, scales(run.w, rules.get("eta")), rules["rho"], own=run.own)):
            perturbed_loss, gs = run.gradient(batch, statistics=False)
        run.step(gs)
        return loss, perturbed_loss

    return step


def msam(run, rho):
    """v = mu v + g(w~) + wd w; w -= lr v; w~ = w - rho v / norm(v), and w~ = w before the first step. One pass a step, at w~.

    The code published with the paper decays with wd w~, which is weight decay in the loss.
    """
    v = {name: torch.zeros_like(x) for name, x in run.w.items()}

    def step(t, batch):
        ahead = ascent(combine((-1, v)), scales(run.w), rho, own=run.own) if t else v
        with run.at(ahead):
            # With weight decay in the loss this is g(w~) + wd w~.
            loss, g = run.gradient(batch, statistics=True)
        with torch.no_grad():
            for name, parameter in run.w.items():
                own = run.own[name]
                decay = own["weightDecay"] if run.base.get("decay") != "loss" else 0
                v[name] = own["momentum"] * v[name] + g[name] + decay * parameter
                parameter.sub_(own["lr"] * v[name])
        return loss, None

    return step


def extragradient(run):
    """G = gradient at w - lr g."""

    def step(t, batch):
        loss, g = run.gradient(batch, statistics=True)
        with run.at({name: -run.own[name]["lr"] * g[name] for name in g}):
            perturbed_loss, gs = run.gradient(batch, statistics=False)
        run.step(gs)
        return loss, perturbed_loss

    return step


# The cases.


def keep(tensors):
    """Small tensors whole, larger ones as a summary."""
    return {name: x.reshape(-1).tolist() if x.numel() <= 16 else formula.summary(name, x) for name, x in tensors.items()}


def run_case(method, options, make, base=SGD, **extra):
    """Three steps of what `make` gives; `options` are those of flatmin's class `method`."""
    run = Run(base, extra.get("groups", ()), extra.get("accumulate"))
    step = make(run)
    case = {"base": base, "method": method, "options": options} | extra | {"steps": []}
    for t in range(STEPS):
        loss, perturbed_loss = step(t, run.net.batch(t))
        case["steps"].append({"loss": loss, "perturbedLoss": perturbed_loss})
    case["parameters"] = keep({name: x.detach() for name, x in run.w.items()})
    case["statistics"] = keep({name: values for name, values in run.model.named_buffers() if "running" in name})
    case["batchesTracked"] = int(run.model.bn1.num_batches_tracked)
    case["evalLogits"] = formula.summary("logits", torch.tensor(eval_logits(run.model, run.net), dtype=torch.float64))
    return case


def option_cases():
    """Options of SAM and ASAM."""
    rho = {"rho": 0.1}
    adaptive = {"rho": 0.5, "eta": 0.01}
    cases = {
        "sam": run_case("SAM", rho, lambda run: plain_sam(run, **rho)),
        "sam/adamw": run_case("SAM", rho, lambda run: plain_sam(run, **rho), ADAMW),
        "asam": run_case("ASAM", adaptive, lambda run: plain_sam(run, **adaptive)),
    }
    for p in (1.25, 1.5, 4, 8, "inf"):
        small = {"rho": 0.01 if p == "inf" else 0.05}
        cases[f"sam/p-{p}"] = run_case("SAM", small | {"p": p}, lambda run: plain_sam(run, **small, p=p))
    for p in (1.5, 4, "inf"):
        small = {"rho": 0.05 if p == "inf" else 0.25, "eta": 0.01}
        cases[f"asam/p-{p}"] = run_case("ASAM", small | {"p": p}, lambda run: plain_sam(run, **small, p=p))
    filters = {"scale": "filter", "linearFilters": True}
    cases["asam/linear-filters"] = run_case("ASAM", adaptive | filters, lambda run: plain_sam(run, **adaptive, filters=True))
    for rule in ("both", "frozen"):
        cases[f"sam/batch-norm-{rule}"] = run_case("SAM", rho | {"batchNorm": rule}, lambda run: plain_sam(run, **rho, batch_norm=rule))
    cases["sam/every-2"] = run_case("SAM", rho | {"interval": 2}, lambda run: every_k(run, 2, **rho))
    cases["asam/every-3"] = run_case("ASAM", adaptive | {"interval": 3}, lambda run: every_k(run, 3, **adaptive))
    cases["sam/quarter-of-batch"] = run_case("SAM", rho | {"ascentFraction": 0.25}, lambda run: part_of_batch(run, 0.25, **rho))
    cases["asam/half-of-batch"] = run_case("ASAM", adaptive | {"ascentFraction": 0.5}, lambda run: part_of_batch(run, 0.5, **adaptive))
    for m in (4, 6):
        cases[f"sam/m-{m}"] = run_case("SAM", rho | {"microBatch": m}, lambda run: m_sharpness(run, m, **rho))
    cases["asam/m-8"] = run_case("ASAM", adaptive | {"microBatch": 8}, lambda run: m_sharpness(run, 8, **adaptive))
    for size in (8, 6):
        cases[f"sam/accumulated-{size}"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), accumulate=size)
    for count in (2, 3):
        cases[f"sam/inner-{count}"] = run_case("SAM", rho | {"innerSteps": count}, lambda run: inner_steps(run, count, **rho))
    cases["asam/inner-2"] = run_case("ASAM", adaptive | {"innerSteps": 2}, lambda run: inner_steps(run, 2, **adaptive))
    return cases


def base_cases():
    """Where weight decay acts, clipping of either pass, and parameter groups."""
    rho = {"rho": 0.1}
    adaptive = {"rho": 0.5, "eta": 0.01}
    decay = {**NO_DECAY, "weightDecay": 5e-2}
    clip = {"norm": 0.5, "guard": 1e-6}
    groups = [
        {"parameters": ["bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias", "conv2.bias"], "weightDecay": 0, "rho": 0.02},
        {"parameters": ["linear.weight", "linear.bias"], "lr": 0.03, "weightDecay": 1e-2, "perturb": False},
    ]
    unperturbed = [{"parameters": ["conv1.weight"], "rho": 0}]
    cases = {}
    for where in ("loss", "decoupled"):
        cases[f"sam/decay-{where}"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), decay | {"decay": where})
    cases["asam/decay-loss"] = run_case("ASAM", adaptive, lambda run: plain_sam(run, **adaptive), decay | {"decay": "loss"})
    cases["sam/clip-last"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), SGD | {"clip": clip})
    cases["sam/clip-last-decay-loss"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), decay | {"decay": "loss", "clip": clip})
    # Clipping by norm leaves the direction alone, so only a large guard tells whether the first pass was clipped.
    guard = rho | {"guard": 0.1}
    cases["sam/clip-first"] = run_case("SAM", guard | {"ascentClip": clip}, lambda run: plain_sam(run, **guard, clip=clip))
    cases["sam/groups"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), groups=groups)
    cases["asam/groups"] = run_case("ASAM", adaptive, lambda run: plain_sam(run, **adaptive), groups=groups)
    cases["sam/groups-adamw"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), ADAMW, groups=groups)
    cases["sam/group-of-rho-0"] = run_case("SAM", rho, lambda run: plain_sam(run, **rho), groups=unperturbed)
    return cases


def method_cases():
    """The other methods."""
    rho = {"rho": 0.1}
    adaptive = {"rho": 0.5, "scale": "element", "eta": 0.01}
    asam = {"rho": 0.5, "eta": 0.01}
    norms = ["bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"]
    cases = {
        "gsam": run_case("GSAM", rho | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **rho)),
        "gsam/adaptive": run_case("GSAM", adaptive | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **asam)),
        "gsam/adamw": run_case("GSAM", rho | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **rho), ADAMW),
        "looksam-2": run_case("LookSAM", rho | {"alpha": 0.7, "interval": 2}, lambda run: looksam(run, 0.7, 2, **rho)),
        "looksam-3": run_case("LookSAM", rho | {"alpha": 0.7, "interval": 3}, lambda run: looksam(run, 0.7, 3, **rho)),
        "esam": run_case("ESAM", rho | {"beta": 1, "gamma": 0.5}, lambda run: esam(run, 0.5, **rho)),
        "wsam/coupled": run_case("WSAM", rho | {"c": 0.7, "coupled": True}, lambda run: wsam_coupled(run, 0.7, **rho)),
        "wsam/decoupled": run_case("WSAM", rho | {"c": 0.7, "coupled": False}, lambda run: wsam_decoupled(run, 0.7, **rho)),
        "wsam/decoupled-adamw": run_case("WSAM", rho | {"c": 0.7, "coupled": False}, lambda run: wsam_decoupled(run, 0.7, **rho), ADAMW),
        "fsam": run_case("FSAM", rho | {"sigma": 1, "lambda": 0.9}, lambda run: fsam(run, 1.0, 0.9, **rho)),
        "fsam/half": run_case("FSAM", rho | {"sigma": 0.5, "lambda": 0.6}, lambda run: fsam(run, 0.5, 0.6, **rho)),
        "msam": run_case("MSAM", {"rho": 0.3}, lambda run: msam(run, 0.3)),
        "msam/decay-loss": run_case("MSAM", {"rho": 0.3}, lambda run: msam(run, 0.3), SGD | {"decay": "loss"}),
        "samon": run_case("SAMON", rho | {"scale": "none"}, lambda run: plain_sam(run, **rho, parameters=norms)),
        "extragradient": run_case("Extragradient", {}, extragradient),
    }
    # Groups, decay in the loss and accumulation meet the methods that combine gradients.
    groups = [
        {"parameters": ["bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"], "weightDecay": 0, "rho": 0.02, "momentum": 0.5},
        {"parameters": ["linear.weight", "linear.bias"], "lr": 0.03, "perturb": False},
    ]
    lossy = SGD | {"weightDecay": 5e-2, "decay": "loss"}
    coupled, decoupled = rho | {"c": 0.7, "coupled": True}, rho | {"c": 0.7, "coupled": False}
    cases |= {
        "gsam/groups": run_case("GSAM", rho | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **rho), groups=groups),
        "gsam/decay-loss": run_case("GSAM", rho | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **rho), lossy),
        "gsam/accumulated-6": run_case("GSAM", rho | {"alpha": 0.4}, lambda run: gsam(run, 0.4, **rho), accumulate=6),
        "looksam/groups": run_case("LookSAM", rho | {"alpha": 0.7, "interval": 2}, lambda run: looksam(run, 0.7, 2, **rho), groups=groups),
        "looksam/decay-loss": run_case("LookSAM", rho | {"alpha": 0.7, "interval": 2}, lambda run: looksam(run, 0.7, 2, **rho), lossy),
        "wsam/coupled-decay-loss": run_case("WSAM", coupled, lambda run: wsam_coupled(run, 0.7, **rho), lossy),
        "wsam/decoupled-groups": run_case("WSAM", decoupled, lambda run: wsam_decoupled(run, 0.7, **rho), groups=groups),
        "wsam/decoupled-accumulated-6": run_case("WSAM", decoupled, lambda run: wsam_decoupled(run, 0.7, **rho), accumulate=6),
        "fsam/adaptive": run_case("FSAM", adaptive | {"sigma": 1, "lambda": 0.9}, lambda run: fsam(run, 1.0, 0.9, **asam)),
        "fsam/groups": run_case("FSAM", rho | {"sigma": 1, "lambda": 0.9}, lambda run: fsam(run, 1.0, 0.9, **rho), groups=groups),
        "fsam/decay-loss": run_case("FSAM", rho | {"sigma": 1, "lambda": 0.9}, lambda run: fsam(run, 1.0, 0.9, **rho), lossy),
        "esam/adaptive": run_case("ESAM", adaptive | {"beta": 1, "gamma": 0.5}, lambda run: esam(run, 0.5, **asam)),
        "esam/decay-loss": run_case("ESAM", rho | {"beta": 1, "gamma": 0.5}, lambda run: esam(run, 0.5, **rho), lossy),
        "msam/groups": run_case("MSAM", {"rho": 0.3}, lambda run: msam(run, 0.3), groups=groups),
        "extragradient/groups": run_case("Extragradient", {}, extragradient, groups=[{"parameters": ["conv1.weight", "conv2.weight"], "lr": 0.03}]),
        "extragradient/decay-loss": run_case("Extragradient", {}, extragradient, lossy),
    }
    for coins in itertools.product((False, True), repeat=STEPS):
        name = "".join("01"[coin] for coin in coins)
        half, sequence = rho | {"probability": 0.5}, {"coins": list(coins)}
        cases[f"rst/{name}"] = run_case("RST", half, lambda run: rst(run, coins, **rho), **sequence)
        cases[f"grst/{name}"] = run_case("GRST", half | {"c": 2}, lambda run: rst(run, coins, 2.0, **rho), **sequence)
    return cases


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    net = Net("small")
    cases = option_cases() | base_cases() | method_cases()
    document = {
        "about": "Golden values in float64, made by variants.py; see README.md. Do not edit.",
        "versions": versions(),
        "shape": net.shape,
        "numClasses": net.num_classes,
        "formula": formula_sample(net),
        "cases": cases,
    }
    path = HERE / "variants.json"
    path.write_text(render(document) + "\n")
    print(f"{path}: {len(cases)} cases, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
