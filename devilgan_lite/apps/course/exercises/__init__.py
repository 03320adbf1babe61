"""The exercises, a file each: ``EXERCISES`` maps the name of each file to its ``exercise``."""

import pkgutil
from importlib import import_module

from devilgan_lite.apps.course.exercise import Exercise

EXERCISES: dict[str, Exercise] = {
    module.name: import_module(f"{__name__}.{module.name}").exercise for module in pkgutil.iter_modules(__path__)
}
