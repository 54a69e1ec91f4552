"""The matrices of Winograd's algorithm, and their product with what a kernel loads."""

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code.emit import Expr

Matrix = tuple[tuple[float, ...], ...]

# Per output tile size m: B^T (input), G (filter), A^T (output).
TRANSFORMS: dict[int, tuple[Matrix, Matrix, Matrix]] = {
    2: (
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: (
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}


def combine(row: tuple[float, ...], terms: list[Expr]) -> Expr:
    """Return the dot product of a constant row with expressions; factors 0 and 1 cost nothing."""
    total = None
    for factor, term in zip(row, terms, strict=True):
        if factor == 0:
            continue
        part = term if factor == 1 else term * T.float32(factor)
        total = part if total is None else total + part
    return total
