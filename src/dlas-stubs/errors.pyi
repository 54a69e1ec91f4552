from dlas.core.errors import *
