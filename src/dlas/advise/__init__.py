"""Results and the catalogue in, a checklist of the six layers and the next experiments out."""

from dlas.advise.checklist import advise
from dlas.advise.quick_reference import reference
from dlas.advise.said import Advice

__all__ = ["Advice", "advise", "reference"]
