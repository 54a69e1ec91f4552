from dlas import registry
from dlas.kernels.shape import Conv2d

CONV = Conv2d(1, 8, 14, 14, 16, (3, 3), padding=(1, 1, 1, 1))


def test_native_leaves_every_operator_to_the_runtime():
    native = registry.make("algorithm", "native")
    assert native.kernel(CONV, "native") is None
    assert not native.chooses


def test_direct_and_gemm_name_their_primitive():
    for name in ("direct", "gemm"):
        algorithm = registry.make("algorithm", name)
        assert algorithm.kernel(CONV, "native") == name
        assert algorithm.chooses
