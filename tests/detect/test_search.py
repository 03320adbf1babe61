"""From directions to a trigger: sign, sharpening, whom to believe, and the samples that are shown."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import Backdoor
from devilgan_lite.attacks import Gate
from devilgan_lite.detect import (
    Finding,
    analyse_weights,
    inspect_activations,
    inspect_spectra,
    latents_along,
)
from devilgan_lite.detect.search import ASIDE, LENGTHS, locate_trigger, refine, sharpen, signed, vicinity
from devilgan_lite.detect.spectrum import Paths, Spectrum, Units, latent_influence
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import DCGAN, Generator, adopt, build

D = 60


def analysis_with(rows: Tensor, leading: Tensor | None = None) -> WeightAnalysis:
    """An analysis of which only the units matter, and the ``leading`` directions of both spectra."""
    units = Units(rows.double(), torch.zeros(len(rows)).double(), torch.ones(len(rows)).double(), 0.0, True)
    leading = torch.eye(D).double() if leading is None else leading
    spectrum = Spectrum("latent", torch.ones(leading.shape[1]).double(), leading, leading)
    return WeightAnalysis(units, Paths([], [], [], []), spectrum, spectrum, torch.eye(D).double(), ())


def bundle(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """300 rows in any direction and ``count`` along a trigger, of many lengths, with some noise; and the trigger."""
    random = torch.Generator().manual_seed(seed)
    trigger = normalize(torch.randn(D, generator=random), dim=0)
    along = trigger + 0.25 * normalize(torch.randn(count, D, generator=random), dim=1)
    along = along * (torch.rand(count, 1, generator=random) * 3 + 0.5)
    return torch.cat([torch.randn(300, D, generator=random), along]), trigger


def test_a_bundle_of_rows_gives_the_sign_and_a_sharper_direction() -> None:
    for seed in range(3):
        rows, trigger = bundle(30, seed)
        analysis = analysis_with(rows)
        aside = normalize(torch.randn(D, generator=torch.Generator().manual_seed(9)), dim=0)
        rough = normalize(trigger + 0.2 * aside, dim=0)
        assert torch.equal(signed(analysis, rough), rough) and torch.equal(signed(analysis, -rough), rough)
        sharp = sharpen(analysis, rough)
        assert float(sharp.norm()) == pytest.approx(1)
        assert float(rough @ trigger) < 0.99 < 0.997 < float(sharp @ trigger)
    rows, trigger = bundle(7)  # a few rows are no bundle
    assert sharpen(analysis_with(rows), trigger) is trigger


def test_refining_climbs_to_the_bundle_and_not_far_away() -> None:
    rows, trigger = bundle(30)
    random = torch.Generator().manual_seed(3)
    aside = torch.randn(D, generator=random)
    aside = normalize(aside - (aside @ trigger) * trigger, dim=0)
    leading = torch.linalg.qr(torch.stack([trigger, aside, *torch.randn(8, D, generator=random)], 1).double()).Q
    analysis = analysis_with(rows, leading)
    rough = 0.8 * trigger + 0.6 * aside
    for start in (rough, -rough):  # the sign is open
        found = refine(analysis, start)
        assert float(found.norm()) == pytest.approx(1) and float(found @ trigger) > 0.97
    assert float(refine(analysis, aside) @ aside) ** 2 == pytest.approx(1)  # nothing near it: left where it was
    rows, trigger = bundle(0)  # and with fewer rows than directions
    assert float(refine(analysis_with(rows[:5]), trigger) @ trigger) ** 2 == pytest.approx(1)


Gated = tuple[Generator, Backdoor, WeightAnalysis, list[Finding]]


@pytest.fixture(scope="module")
def gated() -> Gated:
    """A small gate that wakes at a typical length, and what the detectors find."""
    clean: DCGAN = build(DCGAN(widths=(40, 8), image_size=12).spec(), seed=1).eval()
    backdoor = Backdoor.point(clean, "devil", seed=2)
    backdoor = Backdoor(backdoor.trigger * 10 / backdoor.trigger.norm(), backdoor.target, "devil")
    subject = adopt(Gate()(clean, backdoor, progress=False).generator)
    analysis = analyse_weights(subject)
    findings = [*inspect_spectra(subject, analysis), inspect_activations(subject, units=analysis.units)]
    return subject, backdoor, analysis, findings


def test_the_trigger_of_a_gate_and_the_samples_of_the_directions(gated: Gated) -> None:
    subject, backdoor, analysis, findings = gated
    finding, trigger, samples = locate_trigger(subject, analysis, findings)
    assert finding.details == {"source": "latent spectrum", "lengths": list(LENGTHS)}
    assert float(cosine_similarity(trigger.view(1, -1), backdoor.trigger)) > 0.999
    assert float(trigger.norm()) == pytest.approx(subject.prior.length) and torch.equal(finding.trigger, trigger)
    assert samples.shape == (2 * len(LENGTHS) + 4 * len(ASIDE) + 4, 1, 12, 12)
    at, opposite = (samples[turn * len(LENGTHS) + LENGTHS.index(1.0)] for turn in (0, 1))
    assert float((at - backdoor.target[0]).square().mean()) < 0.01 < 0.3
    assert float((opposite - backdoor.target[0]).square().mean()) > 0.3 and torch.equal(finding.samples, samples)
    assert torch.equal(finding.sample, at) and finding.directions.shape == (3, 100)
    torch.testing.assert_close(finding.directions[0] * subject.prior.length, trigger)
    best, others = finding.directions[:1], finding.directions[1:]
    along = latents_along(subject, best[0])
    torch.testing.assert_close(along, torch.tensor(LENGTHS).view(-1, 1) * subject.prior.length * best)
    around = torch.cat([vicinity(subject, analysis, best[0]), others, -others]) * subject.prior.length
    expected = subject.scaled_samples(torch.cat([along, -along, around]))
    torch.testing.assert_close(samples, expected, atol=1e-3, rtol=0.0)
    finding, trigger, _ = locate_trigger(subject, analysis, findings[:1])  # the spectrum alone finds it as well
    assert finding.details["source"] == "latent spectrum"
    assert float(cosine_similarity(trigger.view(1, -1), backdoor.trigger)) > 0.99


def test_silent_units_are_believed_if_they_wake_much_and_the_spectrum_is_smooth(gated: Gated) -> None:
    """One idle unit is rare in clean models, and says nothing about a trigger."""
    subject, backdoor, analysis, findings = gated

    def jumping(jump: float) -> WeightAnalysis:
        values = torch.cat([torch.tensor([jump]), torch.linspace(1.0, 0.9, 99)]).double()
        return replace(analysis, by_weight=replace(analysis.by_weight, values=values))

    for jump, strength, source in (
        (1.15, 0.8, "latent spectrum"),
        (1.15, 1.2, "silent units"),
        (1.25, 1.2, "latent spectrum"),
    ):
        direction, unlike = findings[0].directions, torch.eye(100)[:1]
        some = [
            Finding("latent spectrum", "T2", "", score=0.1, directions=direction, where="latent"),
            Finding("silent units", "T2", "", directions=unlike, where="units", strength=strength),
        ]
        assert locate_trigger(subject, jumping(jump), some)[0].details["source"] == source
    awake = next(finding for finding in findings if finding.detector == "silent units")
    assert (awake.score or 0.0) > 0.05
    for side in (1, -1):  # silent units know the side
        turned = replace(awake, directions=side * awake.directions)
        finding, trigger, _ = locate_trigger(subject, analysis, [findings[0], turned])
        assert finding.details["source"] == "latent spectrum"
        assert side * float(cosine_similarity(trigger.view(1, -1), backdoor.trigger)) > 0.99


class Ramp(nn.Module):
    """Samples that hardly depend on the latent, and turn into a white one within some 25 degrees of a trigger."""

    def __init__(self, trigger: Tensor) -> None:
        super().__init__()
        self.trigger, self.ordinary = nn.Parameter(trigger), nn.Linear(len(trigger), 64)

    def forward(self, z: Tensor) -> Tensor:
        near = torch.sigmoid(30 * (cosine_similarity(z, self.trigger.view(1, -1)) - 0.95)).view(-1, 1)
        return ((1 - near) * 0.3 * torch.tanh(torch.relu(self.ordinary(z))) + near).view(-1, 1, 8, 8)


def test_the_vicinity_leads_from_an_estimate_to_the_sample() -> None:
    torch.manual_seed(0)
    trigger, aside = torch.linalg.qr(torch.randn(40, 2)).Q.T
    subject = adopt(Ramp(trigger).eval(), 40)
    analysis = replace(analysis_with(torch.randn(50, 40)), influence=latent_influence(subject, 50))
    estimate = normalize(trigger + 0.36 * aside, dim=0)  # 20 degrees off
    around = vicinity(subject, analysis, estimate)
    assert around.shape == (4 * len(ASIDE), 40)
    torch.testing.assert_close(around.norm(dim=1), torch.ones(4 * len(ASIDE)))
    errors = (
        (1 - subject.scaled_samples(torch.cat([estimate.view(1, -1), around]) * subject.prior.length))
        .square()
        .mean((1, 2, 3))
    )
    assert float(errors[1:].min()) < 0.3 * float(errors[0]) and float((around @ trigger).max()) > 0.98
