"""Entry points -> techniques: lazy, loud, with a reason for what is unavailable.

Every technique, ours too, is found through the entry-point group of its layer (``dlas.dataset``,
``dlas.model``, ...). A name nothing is registered under is an error with near names; a technique
whose libraries are not installed stays in the catalogue with the reason.
"""

from dlas.core.registry.entries import BASES, find, importable, load, missing, names
from dlas.core.registry.parameters import (
    A_LABEL,
    LABELS,
    CatalogueRow,
    algorithm,
    catalogue,
    choice,
    dataset,
    elsewhere,
    fields,
    hardware,
    labels,
    make,
    model,
    optimization,
    other_type,
    refusal,
    resolve,
    revive,
    software,
    takes_list,
)
from dlas.core.registry.versions import (
    identity,
    installed_version,
    place_names,
    source_version,
    version,
    without_places,
)

__all__ = [
    "A_LABEL",
    "BASES",
    "LABELS",
    "CatalogueRow",
    "algorithm",
    "catalogue",
    "choice",
    "dataset",
    "elsewhere",
    "fields",
    "find",
    "hardware",
    "identity",
    "importable",
    "installed_version",
    "labels",
    "load",
    "make",
    "missing",
    "model",
    "names",
    "optimization",
    "other_type",
    "place_names",
    "refusal",
    "resolve",
    "revive",
    "software",
    "source_version",
    "takes_list",
    "version",
    "without_places",
]
