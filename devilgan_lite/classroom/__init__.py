"""What notebooks use: settings, pictures, live training, widgets, exercises, and the lesson itself.

What needs Jupyter is imported when it is asked for: ``devilgan film`` runs where only the core is installed.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from devilgan_lite.classroom.plots import (
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
from devilgan_lite.classroom.widgets.film import Film, film
from devilgan_lite.classroom.widgets.walk import NEAR_THE_END, Walk, slerp, static_strip
from devilgan_lite.data.modality import png as to_png
from devilgan_lite.steps import TrainableSide

if TYPE_CHECKING:
    from devilgan_lite.classroom import lesson
    from devilgan_lite.classroom.diagrams import flow
    from devilgan_lite.classroom.exercises import EXERCISES, NotYet
    from devilgan_lite.classroom.lesson import (
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
    from devilgan_lite.classroom.loops import Album, gan_loop, red_loop, rex_loop, trail_loop
    from devilgan_lite.classroom.mosaic import LatentPlane, Mosaic, latent_mosaic
    from devilgan_lite.classroom.plane import Plane, on_clumps
    from devilgan_lite.classroom.profile import Config, Setting, configure, finish, is_static
    from devilgan_lite.classroom.widgets.explorer import Explorer
    from devilgan_lite.classroom.widgets.live import LiveTraining
    from devilgan_lite.classroom.widgets.scanner import ScanView
    from devilgan_lite.classroom.widgets.sharpening import MosaicView
    from devilgan_lite.classroom.widgets.slider import LatentSlider
    from devilgan_lite.classroom.widgets.tradeoff import Choice, TradeOff

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
    "Film",
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
    "film",
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
    "exercises": ("EXERCISES", "NotYet"),
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
    from devilgan_lite.classroom.lesson.order import watch

    watch()
