"""Which learning algorithm a model runs in its context."""

from insitu.identification.evidence import Answered
from insitu.identification.verdicts import Candidate, Identification, identify

__all__ = ["Answered", "Candidate", "Identification", "identify"]
