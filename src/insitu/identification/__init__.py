"""Which learning algorithm a model runs in its context."""

from insitu.identification.evidence import Answered
from insitu.identification.result import Candidate, Identification, Mixture
from insitu.identification.verdicts import identify

__all__ = ["Answered", "Candidate", "Identification", "Mixture", "identify"]
