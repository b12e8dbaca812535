"""What figures share: colours of classes, and writing a figure as a PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from muhdi.files import write_bytes
from muhdi.taxonomy import ClassSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def hex_colours(classes: ClassSet) -> list[str]:
    """Colours of the classes, as ``#rrggbb``."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in classes.colours]


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG, whole or not at all."""
    # The canvas of the Agg backend, without pyplot: no display is needed and none is opened.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_bytes(path, buffer.getvalue())
