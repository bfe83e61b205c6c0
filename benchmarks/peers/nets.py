"""The nets that the peers train, under flatmin's names: those that the zoo's golden values are made with."""
import sys
from pathlib import Path

import resnet_cifar

GOLDENS = Path(__file__).parents[2] / "__test__" / "goldens"


def build(name, num_classes):
    """A net by its name; all but the ResNets for CIFAR need the libraries that `venv.sh models` installs."""
    if name in resnet_cifar.BLOCKS:
        return resnet_cifar.build(name, num_classes)
    sys.path.insert(0, str(GOLDENS))
    import models_cifar
    import models_imagenet

    references = models_cifar.MODELS | models_imagenet.MODELS
    if name not in references:
        raise ValueError(f"no peer has the model '{name}': expected one of {', '.join(references)}")
    return references[name].build(num_classes)
