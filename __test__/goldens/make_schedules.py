"""Makes the values that `crates/train/tests/schedules.rs` compares with: learning rates and momenta of torch.optim.lr_scheduler, in float64.

usage: "$(benchmarks/peers/venv.sh)" __test__/goldens/make_schedules.py      (from the root; a few seconds)
A case holds the options of a flatmin run and, for each step, what PyTorch's schedulers make of the same run.
"""
import itertools
import json
import platform
import random
import warnings
from pathlib import Path

import torch
from torch.optim import lr_scheduler as schedulers

HERE = Path(__file__).parent
LR, MOMENTUM, RHO = 0.3, 0.9, 0.5
EPOCHS, STEPS_PER_EPOCH = 12, 7

# PyTorch tells that a scheduler moves before the optimizer, which has nothing to step here.
warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")


def optimizer_of(base="sgd", lr=LR):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    if base == "adam":
        return torch.optim.Adam([weight], lr=lr, betas=(MOMENTUM, 0.999))
    return torch.optim.SGD([weight], lr=lr, momentum=MOMENTUM)


def momentum_of(optimizer):
    group = optimizer.param_groups[0]
    return group["momentum"] if "momentum" in group else group["betas"][0]


def walk(by, make, base="sgd"):
    """What is in force at each step of a run whose scheduler moves by the step or by the epoch."""
    optimizer = optimizer_of(base)
    scheduler = make(optimizer)
    lr, momentum = [], []
    for step in range(EPOCHS * STEPS_PER_EPOCH):
        lr.append(optimizer.param_groups[0]["lr"])
        momentum.append(momentum_of(optimizer))
        if by == "step" or (step + 1) % STEPS_PER_EPOCH == 0:
            scheduler.step()
    return {"lr": lr, "momentum": momentum}


def reference(schedule):
    """The PyTorch scheduler, for an optimizer, that a schedule of flatmin stands for; all of its times in ticks."""
    ticks = {"step": STEPS_PER_EPOCH, "epoch": 1}[schedule["by"]]
    warmup = round(schedule.get("warmupEpochs", 0) * ticks)
    rest = EPOCHS * ticks - warmup
    span = round(schedule["epochs"] * ticks) if "epochs" in schedule else rest
    milestones = schedule.get("milestones", [0.5 * EPOCHS, 0.75 * EPOCHS])
    makers = {
        "constant": lambda o: schedulers.ConstantLR(o, factor=1.0),
        "cosine": lambda o: schedulers.CosineAnnealingLR(o, T_max=span, eta_min=LR * schedule.get("minFactor", 0.0)),
        "multiStep": lambda o: schedulers.MultiStepLR(
            o, [round(epoch * ticks) - warmup for epoch in milestones], gamma=schedule.get("gamma", 0.1)
        ),
        "exponential": lambda o: schedulers.ExponentialLR(o, gamma=schedule.get("gamma", 0.95) ** (1 / ticks)),
        "linear": lambda o: schedulers.LinearLR(
            o, schedule.get("startFactor", 1.0), schedule.get("endFactor", 0.0), total_iters=span
        ),
        "polynomial": lambda o: schedulers.PolynomialLR(o, total_iters=span, power=schedule.get("power", 1.0)),
    }
    makers["step"] = makers["multiStep"]
    if "stepSize" in schedule:
        makers["step"] = lambda o: schedulers.StepLR(o, round(schedule["stepSize"] * ticks), schedule.get("gamma", 0.1))
    make = makers[schedule["type"]]
    if warmup == 0:
        return make
    # Without a start factor the rise is 1/W, 2/W, ..., W/W, over W - 1 ticks of LinearLR.
    start = schedule.get("warmupStart")
    rise = (start, warmup) if start is not None else (1 / warmup, warmup - 1)
    return lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, start_factor=rise[0], total_iters=rise[1]), make(o)], milestones=[warmup]
    )


def closed_form_cases():
    shapes = [
        {"type": "constant"},
        {"type": "cosine"},
        {"type": "cosine", "minFactor": 0.07},
        {"type": "step"},
        {"type": "step", "milestones": [4, 9], "gamma": 0.3},
        {"type": "step", "stepSize": 3, "gamma": 0.5},
        {"type": "multiStep", "milestones": [3, 5, 10], "gamma": 0.2},
        {"type": "exponential"},
        {"type": "exponential", "gamma": 0.7},
        {"type": "linear"},
        {"type": "linear", "startFactor": 1.0, "endFactor": 0.05, "epochs": 6},
        {"type": "polynomial"},
        {"type": "polynomial", "power": 2.5},
        {"type": "polynomial", "power": 0.9, "epochs": 5},
    ]
    warmups = [{}, {"warmupEpochs": 2}, {"warmupEpochs": 3, "warmupStart": 0.2}]
    for shape, warmup, by in itertools.product(shapes, warmups, ["step", "epoch"]):
        schedule = {**shape, **warmup, "by": by}
        yield {"base": "sgd", "schedule": schedule, **walk(by, reference(schedule))}
    rise = {"type": "linear", "startFactor": 0.25, "endFactor": 1.0, "epochs": 4, "by": "step"}
    yield {"base": "sgd", "schedule": rise, **walk("step", reference(rise))}


def one_cycle_cases():
    settings = [
        {},
        {"pctStart": 0.25, "divFactor": 10, "finalDivFactor": 100},
        {"anneal": "linear", "baseMomentum": 0.8, "maxMomentum": 0.9},
        {"threePhase": True},
        {"threePhase": True, "anneal": "linear", "pctStart": 0.4},
        {"cycleMomentum": False},
        {"pctStart": 0.0},
        {"pctStart": 1.0},
    ]
    names = {"pctStart": "pct_start", "divFactor": "div_factor", "finalDivFactor": "final_div_factor",
             "anneal": "anneal_strategy", "threePhase": "three_phase", "cycleMomentum": "cycle_momentum",
             "baseMomentum": "base_momentum", "maxMomentum": "max_momentum"}
    for own, by, base in itertools.product(settings, ["step", "epoch"], ["sgd", "adam"]):
        total = EPOCHS * (STEPS_PER_EPOCH if by == "step" else 1)
        arguments = {names[key]: value for key, value in own.items()}
        make = lambda o: LastStepStays(schedulers.OneCycleLR(o, max_lr=LR, total_steps=total, **arguments), total)
        yield {"base": base, "schedule": {"type": "oneCycle", "by": by, **own}, **walk(by, make, base)}


class LastStepStays:
    """Leaves out the step after the last one, which OneCycleLR would not know."""

    def __init__(self, scheduler, total):
        self.scheduler, self.left = scheduler, total - 1

    def step(self):
        if self.left > 0:
            self.scheduler.step()
        self.left -= 1


def plateau_cases():
    names = {"mode": "mode", "factor": "factor", "patience": "patience", "threshold": "threshold",
             "thresholdMode": "threshold_mode", "cooldown": "cooldown", "minLr": "min_lr", "eps": "eps"}
    settings = [
        {"patience": 2},
        {"patience": 0, "factor": 0.5},
        {"patience": 1, "factor": 0.3, "cooldown": 3},
        {"patience": 1, "factor": 0.5, "minLr": 0.02},
        {"patience": 1, "threshold": 0.05, "thresholdMode": "abs"},
        {"patience": 1, "threshold": 0.1, "thresholdMode": "rel", "factor": 0.6},
        {"patience": 0, "factor": 0.01, "eps": 1e-4},
        {"mode": "max", "patience": 2, "factor": 0.4},
        {"mode": "max", "patience": 1, "threshold": 0.02, "thresholdMode": "abs", "cooldown": 1},
        {"mode": "max", "patience": 1, "threshold": 0.03, "thresholdMode": "rel"},
        {},
    ]
    for number, own in enumerate(settings):
        draw = random.Random(number)
        rising = own.get("mode") == "max"
        # Training that stalls: steps towards 1 (accuracy) or 0.2 (loss) with noise.
        scores = [
            (1.0 - 0.8 * 0.8**epoch if rising else 0.2 + 2.0 * 0.8**epoch) + draw.uniform(-0.06, 0.06)
            for epoch in range(60)
        ]
        if number == 1:
            scores[10] = float("nan")
        optimizer = optimizer_of()
        scheduler = schedulers.ReduceLROnPlateau(optimizer, **{names[key]: value for key, value in own.items()})
        lr = []
        for score in scores:
            scheduler.step(score)
            lr.append(optimizer.param_groups[0]["lr"])
        # JSON has no NaN.
        scores = [None if score != score else score for score in scores]
        yield {"schedule": {"type": "plateau", **own}, "scores": scores, "lr": lr}


def rho_cases():
    """rho_t = rho_min + (lr_t - lr_min) / (lr_max - lr_min) (rho_max - rho_min); Zhuang et al. 2022, "Surrogate Gap
    Minimization Improves Sharpness-Aware Training"."""
    for schedule, lr_min in [
        ({"type": "cosine"}, 0.0),
        ({"type": "cosine", "minFactor": 0.1, "warmupEpochs": 1}, 0.1 * LR),
        ({"type": "linear", "endFactor": 0.01}, 0.01 * LR),
        ({"type": "polynomial", "power": 2.0}, 0.0),
        ({"type": "step", "milestones": [6, 9]}, 0.0),
    ]:
        schedule = {**schedule, "by": "step"}
        lr = walk("step", reference(schedule))["lr"]
        for rho_min in [0.0, 0.02, RHO]:
            # Only a warm-up is below the schedule's lowest value.
            shares = [max(0.0, (value - lr_min) / (LR - lr_min)) for value in lr]
            rho = [rho_min + share * (RHO - rho_min) for share in shares]
            yield {"schedule": schedule, "rhoSchedule": {"type": "lr", "min": rho_min}, "lr": lr, "rho": rho}


def main():
    values = {
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "lr": LR, "momentum": MOMENTUM, "rho": RHO, "epochs": EPOCHS, "stepsPerEpoch": STEPS_PER_EPOCH,
        "byStep": [*closed_form_cases(), *one_cycle_cases()],
        "plateau": list(plateau_cases()),
        "rhoByLr": list(rho_cases()),
    }
    # One case a line.
    lists = {key: value for key, value in values.items() if isinstance(value, list)}
    head = json.dumps({key: value for key, value in values.items() if key not in lists})[1:-1]
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(case, allow_nan=False) for case in cases) + "\n]" for key, cases in lists.items()]
    (HERE / "schedules.json").write_text("{" + ",\n".join([head, *parts]) + "}\n")


if __name__ == "__main__":
    main()
