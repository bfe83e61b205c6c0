"""Random resized crops, mirrored and normalised, by a PyTorch DataLoader over an image folder: the peer of `flatmin bench data`.

--decoder pillow: torchvision's classic transforms on Pillow images, as most ImageNet recipes load. torchvision: torchvision.io.decode_jpeg,
simplejpeg: the package of that name; both are libjpeg-turbo and go on with torchvision's v2 transforms on uint8 tensors.
--threads 1 loads in this process, more in as many worker processes; each computes with one thread.
"""
import argparse
import time

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision import transforms

import protocol

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pillow(path):
    from PIL import Image
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def torchvision_jpeg(path):
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    return decode_jpeg(read_file(path), mode=ImageReadMode.RGB)


def simplejpeg(path):
    import simplejpeg
    with open(path, "rb") as file:
        return torch.from_numpy(simplejpeg.decode_jpeg(file.read(), "RGB")).permute(2, 0, 1)


def pillow_transform(size):
    return transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def tensor_transform(size):
    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


DECODERS = {"pillow": (pillow, pillow_transform), "torchvision": (torchvision_jpeg, tensor_transform), "simplejpeg": (simplejpeg, tensor_transform)}


def start_worker(worker):
    torch.set_num_threads(1)


def forever(loader):
    while True:
        yield from loader


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder with one subfolder a class")
    parser.add_argument("--decoder", choices=DECODERS, default="pillow")
    parser.add_argument("--size", type=int, default=224, help="side of the crops (default: 224)")
    parser.add_argument("--batch", type=int, default=50, help="images a batch (default: 50)")
    protocol.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load, transform = DECODERS[arguments.decoder]
    data = ImageFolder(arguments.folder, transform(arguments.size), loader=load)
    workers = arguments.threads if arguments.threads > 1 else 0
    loader = DataLoader(data, arguments.batch, shuffle=True, drop_last=True, num_workers=workers, worker_init_fn=start_worker, persistent_workers=workers > 0)
    batches = forever(loader)

    def run(steps):
        times = []
        start = time.perf_counter()
        for _ in range(steps):
            images, labels = next(batches)
            now = time.perf_counter()
            times.append((now - start) * 1e3)
            start = now
        assert images.shape == (arguments.batch, 3, arguments.size, arguments.size) and len(labels) == len(images)
        return {"ms": times}

    described = {"decoder": arguments.decoder, "size": arguments.size, "batch": arguments.batch, "workers": workers, "images": len(data)}
    protocol.main(arguments, described, run)


if __name__ == "__main__":
    main()
