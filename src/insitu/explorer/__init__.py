"""A page on which theory, networks and learners follow what one moves: a state, its panels, and the server.

A state becomes figures without the page: the parts that need NiceGUI are imported when the page is opened.

Example:
    >>> from insitu.explorer import PANELS, State
    >>> view = PANELS["depth"].view(State(mask="prefix", depth=40))
    >>> round(view.curves["causal mask"][-1], 2)
    0.08
"""

from insitu.explorer.panels import PANELS
from insitu.explorer.presets import PRESETS
from insitu.explorer.state import State

__all__ = ["PANELS", "PRESETS", "State"]
