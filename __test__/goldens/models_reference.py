"""What make_models.py knows of a reference implementation."""
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn


@dataclass
class Reference:
    """A model of the zoo as another library has it."""

    source: str
    """Which function of which library."""
    build: Callable[[int], nn.Module]
    """The model for a number of classes."""
    packages: tuple[str, ...] = ()
    """The distributions besides torch whose versions the golden file tells."""
    input_shape: list[int] = field(default_factory=lambda: [3, 16, 16])
    """Small, so that the test is quick."""
    num_classes: int = 10
    """Those of the model by default."""
    options: dict = field(default_factory=dict)
    """What flatmin's model is told besides."""
    rename: Callable[[str], str] = lambda name: name
    """From the reference's name of an entry to flatmin's."""
