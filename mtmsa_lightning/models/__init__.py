"""Networks: backbones with multi-scale attention, heads, and the age distributions that they predict."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
