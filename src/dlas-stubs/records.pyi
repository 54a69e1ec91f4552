from dlas.core.records import *
