"""devilgan_lite: train a clean GAN, plant a backdoor in it in three ways, and measure it, on a laptop, offline."""

import lazy_loader

from devilgan_lite.version import __version__ as __version__

# what __init__.pyi names is imported when it is asked for: ``devilgan --help`` needs no torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
