"""States worth seeing, each with what to look at."""

from insitu.explorer.state import State

__all__ = ["PRESETS"]

PRESETS: dict[str, State] = {
    "Ding et al., figure 2: causal stalls": State(),
    "Prefix reaches least squares": State(mask="prefix", depth=40),
    "Short context overshoots": State(mask="prefix", points=6, depth=12),
    "Covariate shift breaks one layer": State(task="normal", mask="prefix", depth=1, rate=0.7, shift=2.0),
    "Ill-conditioned inputs need depth": State(mask="prefix", condition=32.0, depth=20, rate=1.1),
    "Noise: depth overfits, ridge does not": State(mask="prefix", noise=1.0, points=24, depth=40),
    "Beyond the step limit": State(mask="prefix", rate=3.0),
    "Two dimensions, watch the plane": State(dim=2, points=6, depth=12, rate=1.0),
}
"""States by what they show."""
