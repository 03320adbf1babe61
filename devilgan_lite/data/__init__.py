"""Where pictures come from: real samples, toy points, and targets."""

from devilgan_lite.data.images import data_folder, digits, fashion_mnist
from devilgan_lite.data.samples import Samples
from devilgan_lite.data.targets import target, target_names
from devilgan_lite.data.toys import ring

__all__ = ["Samples", "data_folder", "digits", "fashion_mnist", "ring", "target", "target_names"]
