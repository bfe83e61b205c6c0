"""The numbers that the golden runs start from: weights, images and labels by a formula of (name, index), so that golden files hold only results.

Everything is integer arithmetic modulo 2^32 followed by exact float64 operations; `__test__/goldens/formula.ts` gives the same bits.
"""
import math

import numpy as np
import torch


def fnv1a32(text):
    """The 32-bit FNV-1a hash of a name's UTF-8 bytes."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def integers(name, count):
    """`count` 32-bit integers of the stream `name`: the murmur3 finaliser of fnv1a32(name) + (index + 1) * 0x9e3779b9."""
    x = np.uint32(fnv1a32(name)) + np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def uniform(name, count):
    """`count` float64 numbers in [-1, 1): integers / 2^31 - 1, without rounding."""
    return integers(name, count).astype(np.float64) / 2**31 - 1


def tensor_value(name, shape):
    """The start of one entry of a state dict, by the end of its name and its dimensions."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    count = math.prod(shape)
    u = uniform(name, count)
    if len(shape) > 1:
        value = math.sqrt(6 / (count // shape[0])) * u
    elif name.endswith("running_var") or name.endswith("weight"):
        value = 1 + 0.25 * u
    else:
        value = 0.1 * u
    return torch.from_numpy(value).reshape(shape)


def images(step, shape):
    """The images of a step, `shape` = [batch, channels, height, width]."""
    return torch.from_numpy(1.5 * uniform(f"images/{step}", math.prod(shape))).reshape(shape)


def labels(step, batch, num_classes):
    """The labels of a step, [batch]."""
    return torch.from_numpy(choose(f"labels/{step}", batch, num_classes))


def choose(name, count, below):
    """`count` whole numbers below `below`."""
    return (integers(name, count).astype(np.int64) * below) >> 32


def summary(name, values):
    """What is kept of a large tensor: root mean square, mean, four projections on formula vectors over sqrt(n), and eight elements."""
    flat = values.detach().contiguous().reshape(-1).to(torch.float64).numpy()
    count = flat.size
    return {
        "rms": float(np.linalg.norm(flat) / math.sqrt(count)),
        "mean": float(flat.sum() / count),
        "projections": [float(uniform(f"projection/{k}/{name}", count) @ flat / math.sqrt(count)) for k in range(4)],
        "elements": [float(flat[i]) for i in choose(f"elements/{name}", 8, count)],
    }
