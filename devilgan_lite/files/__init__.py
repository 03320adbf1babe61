"""A stranger's file as a module: one door, ``files.open``. A file is read as data; nothing in it is executed."""

import lazy_loader

# what __init__.pyi names is imported when it is asked for: the parent of the jail needs no torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
