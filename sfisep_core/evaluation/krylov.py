"""Solutions and eigenvalues of symmetric matrices that are known by their products alone.

Vectors have the shape (system, delay, channel, column), for many systems at once.
"""

from collections.abc import Callable

import torch

Product = Callable[[torch.Tensor], torch.Tensor]

_MAX_LANCZOS_STEPS = 40
_MAX_GRADIENT_STEPS = 150
_GRADIENT_TOLERANCE = 1e-6


def conjugate_gradients(
    product: Product, guide: Product, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve G x = right approximately; return x, and the coefficients alpha and beta of each step.

    Returns:
        x; step lengths (alpha) and beta, shape (step, system, 1, 1, column).
    """

    def inner(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = (first * second).sum((1, 2), keepdim=True)
        return product

    x, residual = torch.zeros_like(right), right
    direction = guided = guide(residual)
    slope = inner(residual, guided)
    goal = _GRADIENT_TOLERANCE**2 * inner(right, right)
    lengths, growths = [], []
    for _ in range(_MAX_GRADIENT_STEPS):
        along = product(direction)
        # A column that is solved exactly has a zero direction.
        length = torch.nan_to_num(slope / inner(direction, along), posinf=0.0, neginf=0.0)
        x = x + length * direction
        residual = residual - length * along
        guided = guide(residual)
        next_slope = inner(residual, guided)
        growth = torch.nan_to_num(next_slope / slope, posinf=0.0, neginf=0.0)
        direction, slope = guided + growth * direction, next_slope
        lengths.append(length)
        growths.append(growth)
        if bool((inner(residual, residual) <= goal).all()):
            break
    return x, torch.stack(lengths), torch.stack(growths)


def smallest_eigenvalue(
    product: Product, guide: Product, ridge: torch.Tensor, lags: torch.Tensor
) -> torch.Tensor:
    """Compute the smallest eigenvalues of G; 0 where they are too small to be computed.

    Conjugate gradients preconditioned by the inverse of G + ridge are equivalent to Lanczos' method
    for the product of both, whose eigenvalues are e / (e + ridge) for the eigenvalues e of G. The
    coefficients alpha (a) and beta (b) of the steps give its tridiagonal matrix: 1 / a[k] + b[k -
    1] / a[k - 1] on the diagonal, sqrt(b[k]) / a[k] on the off-diagonals.
    """
    systems, length, channels, _ = lags.shape
    generator = torch.Generator().manual_seed(0)
    right = torch.randn((1, length, channels, 1), generator=generator, dtype=lags.dtype)
    right = right.to(lags.device).repeat(systems, 1, 1, 1)
    _, lengths, growths = (t.flatten(1) for t in conjugate_gradients(product, guide, right))
    smallest = lags.new_zeros(systems)
    for number, (a, b) in enumerate(zip(lengths.T, growths.T, strict=True)):
        steps = int((a > 0).long().cumprod(0).sum())  # up to the step where rounding dominates
        a, b = a[:steps], b[:steps].clamp_min(0)
        if steps == 0:
            continue
        diagonal = 1 / a
        diagonal[1:] += b[:-1] / a[:-1]
        beside = (b.sqrt() / a)[:-1]
        matrix = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
        share = torch.linalg.eigvalsh(matrix)[0].clamp(0, 1 - 1e-9)
        smallest[number] = ridge[number] * share / (1 - share)
    return smallest


def largest_eigenvalue(product: Product, lags: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Compute the largest eigenvalues of matrices of the size of G (Lanczos) to about one percent.

    Args:
        product: Computes the product with arrays of shape (system, delay, channel, column).
        lags: Correlations, for their shape.
        where: Systems to compute, shape (system,); the others get 0.
    """
    systems, length, channels, _ = lags.shape
    size = length * channels
    generator = torch.Generator().manual_seed(0)
    column = torch.randn((1, size, 1), generator=generator, dtype=lags.dtype).to(lags.device)
    column = column.repeat(systems, 1, 1)
    basis = column.new_empty((systems, size, 0))
    within = column.new_empty((systems, 0, 0))  # the matrix in that basis, its upper triangle
    largest = column.new_zeros(systems)
    for _ in range(min(size, _MAX_LANCZOS_STEPS)):
        norm = torch.linalg.vector_norm(column, dim=(1, 2), keepdim=True)
        # An invariant basis is continued with zeros.
        is_new = where[:, None, None] & (norm > 1e-10 * largest[:, None, None])
        basis = torch.cat([basis, torch.where(is_new, column / norm, 0.0)], dim=2)
        blocks = basis[:, :, -1].reshape(systems, length, channels, 1)
        column = product(blocks).flatten(1, 2)
        column = torch.where(is_new, column, 0.0)
        projected = basis.mT @ column
        within = torch.nn.functional.pad(within, (0, 1, 0, 1))
        within[:, :, -1:] = projected
        largest = torch.linalg.eigvalsh(within, UPLO="U").abs().amax(1)
        column = column - basis @ projected
        column = column - basis @ (basis.mT @ column)  # second pass, against rounding errors
    return largest
