"""The panels of the explorer, in the order of the page."""

from insitu.explorer.panels.answers import Answers
from insitu.explorer.panels.attention import Attention
from insitu.explorer.panels.depth import Depth
from insitu.explorer.panels.examples import Examples
from insitu.explorer.panels.plane import Plane
from insitu.explorer.panels.shifts import Shifts
from insitu.explorer.view import Panel

__all__ = ["PANELS"]

PANELS: dict[str, Panel] = {
    panel.name: panel for panel in (Depth(), Plane(), Attention(), Answers(), Examples(), Shifts())
}
"""Every panel by its name."""
