"""What the tests of several applications share."""

import io
from collections.abc import Callable

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def size() -> Callable[[bytes], tuple[int, int]]:
    """Width and height of a PNG."""

    def measured(png: bytes) -> tuple[int, int]:
        with Image.open(io.BytesIO(png)) as image:
            return image.size

    return measured
