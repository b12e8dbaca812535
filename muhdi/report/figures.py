"""What figures share: colours of classes, and writing a figure as a PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from muhdi.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG, whole or not at all."""
    # The canvas of the Agg backend, without pyplot: no display is needed and none is opened.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_bytes(path, buffer.getvalue())
