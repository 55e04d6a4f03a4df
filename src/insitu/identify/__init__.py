"""Which learning algorithm a model runs in its context."""

from insitu.identify.identification import Candidate, Identification, identify
from insitu.identify.study import Answered

__all__ = ["Answered", "Candidate", "Identification", "identify"]
