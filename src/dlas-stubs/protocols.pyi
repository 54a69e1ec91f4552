from dlas.core.protocols import *
