"""Find a backdoor that nobody told you about, in any ``nn.Module`` from latents to samples.

``scan`` runs what the given access allows and returns a ``ScanReport``; ``Guard`` watches a generator while it is used.
The detectors one by one: ``inspect_structure``, ``inspect_spectra`` (weights), ``inspect_styles`` (weights of
style-based networks), ``inspect_activations`` (silent units), ``sample_outputs`` and ``inspect_targets`` (outputs);
``DETECTORS`` lists them, and a ``Detector`` of your own joins them in ``scan(..., detectors=(*DETECTORS, mine))``.
"""

from devilgan_lite.detect.activations import inspect_activations
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.guard import Guard
from devilgan_lite.detect.reconstruction import inspect_targets, reconstruct, samples_in
from devilgan_lite.detect.registry import DETECTORS, Evidence
from devilgan_lite.detect.report import ScanReport
from devilgan_lite.detect.sampling import cap_probability, sample_outputs
from devilgan_lite.detect.scan import scan
from devilgan_lite.detect.search import latents_along, locate_trigger
from devilgan_lite.detect.structure import inspect_structure
from devilgan_lite.detect.styles import Styles, inspect_styles, styles_of
from devilgan_lite.detect.twin import Twin, Witness, inspect_twin, noisy_twin
from devilgan_lite.detect.weights import WeightAnalysis, analyse_weights, inspect_spectra

__all__ = [
    "DETECTORS",
    "Detector",
    "Evidence",
    "Finding",
    "Guard",
    "ScanReport",
    "Styles",
    "Twin",
    "Witness",
    "WeightAnalysis",
    "analyse_weights",
    "cap_probability",
    "inspect_activations",
    "inspect_spectra",
    "inspect_structure",
    "inspect_styles",
    "inspect_targets",
    "inspect_twin",
    "latents_along",
    "locate_trigger",
    "noisy_twin",
    "reconstruct",
    "sample_outputs",
    "samples_in",
    "scan",
    "styles_of",
]
