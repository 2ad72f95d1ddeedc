"""Charts as PNG files that look the same on every machine."""

import io

import matplotlib
from matplotlib.figure import Figure

DOTS_PER_INCH = 110

# Neither the settings of the machine's user nor a "$" in a name, which would start a formula, change a chart.
matplotlib.rcdefaults()
matplotlib.rcParams["text.parse_math"] = False


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, which arranges its axes so that no text overlaps."""
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def png(drawn: Figure) -> bytes:
    """Return a figure as a PNG file; equal figures give equal bytes."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
