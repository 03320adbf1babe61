"""What notebooks use: settings, pictures, live training, widgets, exercises, and the lesson itself."""

from devilgan_lite.classroom import lesson
from devilgan_lite.classroom.exercises import EXERCISES, NotYet
from devilgan_lite.classroom.lesson import CheckResult, Question, Quiz, check, hint, predict, quiz, reveal, solution
from devilgan_lite.classroom.lesson.order import watch
from devilgan_lite.classroom.plots import (
    LINES,
    MARKERS,
    PALETTE,
    Picture,
    axes,
    curves,
    figure,
    frontier,
    points,
    show,
    strip,
    table,
    tile,
)
from devilgan_lite.classroom.profile import Config, Setting, configure, finish, is_static
from devilgan_lite.classroom.widgets.explorer import Explorer
from devilgan_lite.classroom.widgets.film import Film, film
from devilgan_lite.classroom.widgets.live import LiveTraining
from devilgan_lite.classroom.widgets.scanner import ScanView
from devilgan_lite.classroom.widgets.slider import LatentSlider
from devilgan_lite.classroom.widgets.tradeoff import Choice, TradeOff
from devilgan_lite.classroom.widgets.walk import Walk, slerp, static_strip
from devilgan_lite.data.modality import png as to_png
from devilgan_lite.steps import TrainableSide

__all__ = [
    "EXERCISES",
    "LINES",
    "MARKERS",
    "PALETTE",
    "Choice",
    "Config",
    "Explorer",
    "Film",
    "LatentSlider",
    "LiveTraining",
    "NotYet",
    "Picture",
    "Question",
    "Quiz",
    "ScanView",
    "Setting",
    "TradeOff",
    "TrainableSide",
    "CheckResult",
    "Walk",
    "axes",
    "check",
    "configure",
    "curves",
    "figure",
    "film",
    "finish",
    "frontier",
    "hint",
    "is_static",
    "lesson",
    "points",
    "predict",
    "quiz",
    "reveal",
    "show",
    "slerp",
    "solution",
    "static_strip",
    "strip",
    "table",
    "tile",
    "to_png",
]

watch()  # in a notebook: a name that is missing gets one sentence that says which cell to run
