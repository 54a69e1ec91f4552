from dlas.core.sampler import *
