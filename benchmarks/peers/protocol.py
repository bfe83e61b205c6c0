"""How the peers talk to the benches: one JSON document a line on stdout, either for one run or, with --serve, for as many runs as stdin asks for.

Serving lets a bench alternate between flatmin and a peer that is already warm. Line out: {"ready": true, ...}; line in: {"run": k}; line out: the times of k
steps and the peak memory; end of input ends the process.
"""
import json
import os
import platform
import statistics
import sys

import numpy
import torch


def add_arguments(parser):
    """The options that all peers share."""
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch computes with (default: all)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the first timed one; a compiled variant compiles here (default: 3)")
    parser.add_argument("--steps", type=int, default=25, help="timed steps when not serving (default: 25)")
    parser.add_argument("--serve", action="store_true", help="answer {\"run\": k} lines from stdin until it ends")


def versions():
    """What ran: a figure without it cannot be repeated."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__, "cpuCapability": torch.backends.cpu.get_cpu_capability()}
    if torch.cuda.is_initialized():
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def hardware(device):
    """What it ran on: the GPU, or the processor."""
    if device.type != "cuda":
        return {"cores": os.cpu_count()}
    gpu = torch.cuda.get_device_properties(device)
    return {"gpu": gpu.name, "memoryBytes": gpu.total_memory, "multiprocessors": gpu.multi_processor_count, "computeCapability": f"{gpu.major}.{gpu.minor}"}


def peak_memory():
    """Peaks of this process so far: resident memory and, where a GPU is used, its memory."""
    peaks = {"peakRssBytes": peak_rss_bytes()}
    if torch.cuda.is_initialized():
        peaks |= {"peakDeviceBytes": torch.cuda.max_memory_allocated()}
    return peaks


def peak_rss_bytes():
    """Peak resident memory of this process so far (VmHWM), or None where the system does not tell it."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def emit(document):
    """One JSON line on stdout, at once."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def spread(times):
    """Median and the quartiles of some times."""
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return {"median": statistics.median(times), "q1": quartiles[0], "q3": quartiles[2], "n": len(times)}


def main(arguments, describe, run_steps):
    """Warms up, then serves or runs once.

    `describe`: what the peer runs, a JSON object. `run_steps(k)`: runs k steps, gives lists of k times in ms by name.
    """
    run_steps(arguments.warmup)
    head = {**describe, "threads": torch.get_num_threads(), "versions": versions()}
    if not arguments.serve:
        times = run_steps(arguments.steps)
        emit({**head, **{name: spread(values) for name, values in times.items()}, **peak_memory()})
        return
    emit({"ready": True, **head})
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            count = int(json.loads(line)["run"])
        except (ValueError, KeyError, TypeError):
            emit({"error": f"expected a line like {{\"run\": 5}}, found {line.strip()!r}"})
            continue
        emit({**run_steps(count), **peak_memory()})
