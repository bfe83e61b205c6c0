"""Gives PyTorch the emulated GPU's operations, too: Python runs this at its start where PYTHONPATH names this folder."""
import ctypes
import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path


class WhenTorchIsThere(importlib.abc.MetaPathFinder):
    """Loads the operations once torch has been imported."""

    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_load(module):
            execute(module)
            release = ".".join(module.__version__.split(".")[:2])
            ctypes.CDLL(Path(os.environ["FLATMIN_CUDA_LIBRARIES"]) / f"libflatmin_cuda_torch{release}.so")

        spec.loader.exec_module = execute_and_load
        return spec


sys.meta_path.insert(0, WhenTorchIsThere())
