"""Parts of the explorer that ipywidgets lacks: a plane to walk in, a screen for small, quick pictures, a late echo."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import torch
import traitlets
from ipywidgets.widgets.widget import JUPYTER_WIDGETS_ECHO
from torch import Tensor

HERE = Path(__file__).parent
EMPTY: dict[str, Any] = {"pixels": b"", "width": 1, "height": 1, "captions": [], "alts": [], "note": ""}


class EchoLast(widgets.Widget):  # type: ignore[misc]  # ipywidgets has no types
    """A widget that answers a move first, and then tells the other browser tabs where it is.

    ipywidgets does it the other way round, and each message before the pictures costs the browser milliseconds. Traits
    carry ``echo_update=False``, so that ipywidgets leaves it to this class.
    """

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What a message from the browser calls."""
        super().set_state(sync_data)
        if JUPYTER_WIDGETS_ECHO and self.comm is not None:  # an observer may have closed it
            state = self.get_state([name for name in sync_data if name in self.keys])
            self.comm.send(data={"method": "echo_update", "state": state, "buffer_paths": []})


class Pad(EchoLast, anywidget.AnyWidget):
    """A plane: ``x`` in [0, 1] to the right, ``y`` in [-1, 1] upwards; pointer, arrow keys (Shift: five times as far).

    While ``animating``, the browser moves ``x`` there and back once every ``period`` seconds since ``started``, a Unix
    time at which x is 0. It is ``size`` pixels wide and high on screen.
    """

    _esm = HERE / "pad.js"
    x = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True, echo_update=False)
    y = traitlets.Float(0.0, min=-1.0, max=1.0).tag(sync=True, echo_update=False)
    animating = traitlets.Bool(False).tag(sync=True, echo_update=False)
    started = traitlets.Float(0.0).tag(sync=True)
    period = traitlets.Float(8.0, min=1.0, max=60.0).tag(sync=True)
    size = traitlets.Int(256).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    words = traitlets.Dict({"left": "", "right": "", "top": "", "bottom": ""}).tag(sync=True)


class Screen(anywidget.AnyWidget):
    """Pictures in a row, each ``size`` pixels high on screen, with captions and one line of text below.

    A whole frame is one trait, so that it travels as one message: no picture ever stands over another one's caption.
    """

    _esm = HERE / "screen.js"
    _css = HERE / "explorer.css"
    size = traitlets.Int(256).tag(sync=True)
    frame = traitlets.Dict(EMPTY).tag(sync=True)

    def show(self, x: Tensor, captions: Sequence[str], alts: Sequence[str], note: str = "") -> None:
        """Show ``x`` ``[n, C, H, W]`` in [-1, 1] with C = 1 or 3; one caption and one alternative text for each."""
        self.frame = frame(x, captions, alts, note)


def frame(x: Tensor, captions: Sequence[str] = (), alts: Sequence[str] = (), note: str = "") -> dict[str, Any]:
    """What a ``Screen`` draws: the pixels ``[n, H, W, 4]`` as bytes, their size and the words."""
    n, _, height, width = x.shape
    pixels = torch.full((n, 4, height, width), 255, dtype=torch.uint8)
    pixels[:, :3] = ((x + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    content = pixels.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    words = {"captions": list(captions), "alts": list(alts), "note": note}
    return {"pixels": content, "width": width, "height": height, **words}
