"""What notebooks use: settings, pictures, live training, widgets, exercises, and the lesson itself.

What needs Jupyter is imported when it is asked for: ``devilgan film`` runs where only the core is installed.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from devilgan_lite.apps.pictures import (
    LINES,
    MARKERS,
    PALETTE,
    Picture,
    apart,
    axes,
    curves,
    figure,
    frontier,
    points,
    show,
    spread,
    strip,
    table,
    tile,
)
from devilgan_lite.apps.walk import NEAR_THE_END, Walk, slerp, static_strip
from devilgan_lite.data.modality import png as to_png
from devilgan_lite.steps import TrainableSide

if TYPE_CHECKING:
    from devilgan_lite.apps.course import lesson
    from devilgan_lite.apps.course.diagrams import flow
    from devilgan_lite.apps.course.exercise import NotYet
    from devilgan_lite.apps.course.exercises import EXERCISES
    from devilgan_lite.apps.course.lesson import (
        CheckResult,
        Question,
        Quiz,
        Suspect,
        check,
        hint,
        hints,
        keep,
        mine,
        predict,
        progress,
        quiz,
        reveal,
        solution,
    )
    from devilgan_lite.apps.course.loops import Album, gan_loop, red_loop, rex_loop, trail_loop
    from devilgan_lite.apps.course.mosaic import LatentPlane, Mosaic, latent_mosaic
    from devilgan_lite.apps.course.plane import Plane, on_clumps
    from devilgan_lite.apps.course.profile import Config, Setting, configure, finish, is_static
    from devilgan_lite.apps.course.widgets.explorer import Explorer
    from devilgan_lite.apps.course.widgets.live import LiveTraining
    from devilgan_lite.apps.course.widgets.scanner import ScanView
    from devilgan_lite.apps.course.widgets.sharpening import MosaicView
    from devilgan_lite.apps.course.widgets.slider import LatentSlider
    from devilgan_lite.apps.course.widgets.tradeoff import Choice, TradeOff

__all__ = [
    "EXERCISES",
    "Album",
    "LINES",
    "MARKERS",
    "NEAR_THE_END",
    "PALETTE",
    "Choice",
    "Config",
    "Explorer",
    "LatentPlane",
    "LatentSlider",
    "LiveTraining",
    "Mosaic",
    "MosaicView",
    "NotYet",
    "Picture",
    "Plane",
    "Question",
    "Quiz",
    "ScanView",
    "Setting",
    "Suspect",
    "TradeOff",
    "TrainableSide",
    "CheckResult",
    "Walk",
    "apart",
    "axes",
    "check",
    "configure",
    "curves",
    "figure",
    "finish",
    "flow",
    "frontier",
    "gan_loop",
    "hint",
    "hints",
    "is_static",
    "keep",
    "latent_mosaic",
    "lesson",
    "mine",
    "on_clumps",
    "points",
    "predict",
    "progress",
    "quiz",
    "red_loop",
    "reveal",
    "rex_loop",
    "show",
    "slerp",
    "solution",
    "spread",
    "static_strip",
    "strip",
    "table",
    "tile",
    "to_png",
    "trail_loop",
]

_HOME = {
    "diagrams": ("flow",),
    "exercise": ("NotYet",),
    "exercises": ("EXERCISES",),
    "lesson": (
        *("Question", "Quiz", "CheckResult", "Suspect", "check", "hint", "hints", "keep", "mine"),
        *("predict", "progress", "quiz", "reveal", "solution"),
    ),
    "loops": ("Album", "gan_loop", "red_loop", "rex_loop", "trail_loop"),
    "mosaic": ("LatentPlane", "Mosaic", "latent_mosaic"),
    "plane": ("Plane", "on_clumps"),
    "profile": ("Config", "Setting", "configure", "finish", "is_static"),
    "widgets.explorer": ("Explorer",),
    "widgets.live": ("LiveTraining",),
    "widgets.scanner": ("ScanView",),
    "widgets.sharpening": ("MosaicView",),
    "widgets.slider": ("LatentSlider",),
    "widgets.tradeoff": ("Choice", "TradeOff"),
}


def __getattr__(name: str) -> Any:
    """Import what needs Jupyter, when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "lesson":
        return importlib.import_module(f"{__name__}.lesson")
    home = next(module for module, names in _HOME.items() if name in names)
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


if "IPython" in sys.modules:  # in a notebook: a name that is missing gets one sentence that says which cell to run
    from devilgan_lite.apps.course.lesson.order import watch

    watch()
