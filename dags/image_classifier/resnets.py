"""torchvision's networks, imported without PyTorch's compiler, whose import takes as long as that of PyTorch itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# torchvision.ops imports `is_compile_supported` from it, for operations on boxes, which ResNets do not have.
COMPILER = "torch._dynamo.utils"


@contextmanager
def _without_compiler() -> Iterator[None]:
    if COMPILER in sys.modules:
        yield
        return
    placeholder = ModuleType(COMPILER)
    vars(placeholder)["is_compile_supported"] = lambda _device: False
    sys.modules[COMPILER] = placeholder
    try:
        yield
    finally:
        del sys.modules[COMPILER]


with _without_compiler():
    from torchvision.models import ResNet, get_model, get_model_weights

__all__ = ["ResNet", "get_model", "get_model_weights"]
