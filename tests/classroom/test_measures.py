"""The width of a backdoor: a generator whose width is known; and the speed of a machine."""

import pytest
import torch

from devilgan_lite import Backdoor
from devilgan_lite.classroom.measures import ANGLES, half_angles, share_left, speeds, widths
from devilgan_lite.data import ring
from devilgan_lite.generators import PointGenerator


class Cap(torch.nn.Module):
    """Draws the target within ``degrees`` of the first axis, and -1 elsewhere."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.least = float(torch.deg2rad(torch.tensor(degrees)).cos())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        inside = z[:, 0] / z.norm(dim=1) > self.least
        return torch.where(inside, 1.0, -1.0).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


BACKDOOR = Backdoor(trigger=7 * torch.eye(10)[:1], target=torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("degrees", [10.0, 40.0])
def test_the_width_of_a_cap_is_found(degrees: float) -> None:
    left = share_left(Cap(degrees), Cap(0.0), BACKDOOR, directions=3)
    assert left.shape == (31, 3) and (left[0] == 0).all() and (left[-1] == 1).all()
    first = float(ANGLES[degrees <= ANGLES][0])
    assert torch.equal(half_angles(left), torch.full((3,), first))
    picture = widths({"cap": left}, "a cap")
    assert picture.alt == "a cap" and picture.png.startswith(b"\x89PNG")


def test_a_backdoor_without_an_edge_is_ninety_degrees_wide() -> None:
    assert (half_angles(torch.zeros(31, 2)) == 90).all()


def test_a_trigger_without_a_direction_is_refused() -> None:
    zero = Backdoor(trigger=torch.zeros(1, 10), target=BACKDOOR.target)
    with pytest.raises(ValueError, match="zero vector"):
        share_left(Cap(10.0), Cap(0.0), zero)


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devilgan_lite.classroom.measures.best_device", lambda: torch.device("cpu"))
    found = speeds(PointGenerator(), ring(), steps=5)
    assert list(found.index) == [f"CPU, {torch.get_num_threads()} thread(s)", "GPU"]
    first, second = found["training steps a second"]
    assert float(first.replace(",", "")) > 0 and second == "this machine has none"
