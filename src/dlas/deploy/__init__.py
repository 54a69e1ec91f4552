"""A measured cell in, a folder out that runs without dlas.

``export`` is the whole of it; ``docs/deploy.md`` says what stands in the folder.
"""

from dlas.deploy.folder import Exported, export

__all__ = ["Exported", "export"]
