"""The samplers that come with dlas, each an entry point of ``dlas.sampler``."""
