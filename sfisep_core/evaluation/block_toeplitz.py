"""Solve symmetric block Toeplitz systems: normal equations of FIR filters between many channels.

The matrix is G[(a, i), (b, j)] = sum_t x_i[t - a] x_j[t - b] for delays a, b < L and P channels. It
depends only on the correlations r[k][i, j] = sum_t x_i[t] x_j[t + k], 0 <= k < L, which represent
it here: n P numbers for n = L P rows instead of n^2.

The inverse is computed from the forward and backward linear predictors of the signals, which
Levinson's recursion yields in O(n^2 P) operations. Products with G and with its inverse are
convolutions, computed by FFT. The recursion loses more digits than an elimination would; iterative
refinement of a solution recovers them. From a condition number of about 1e11 on all digits are
lost: the solution is then computed by conjugate gradients, preconditioned by the inverse of a
matrix with a ridge.

Source:
    P. Whittle: On the fitting of multivariate autoregressions, Biometrika 50, 1963 (recursion);
    I. Gohberg, G. Heinig: Inversion of finite Toeplitz matrices consisting of elements of a
    noncommutative algebra, 1974 (inverse).
"""

import math

import torch

from sfisep_core.evaluation.krylov import (
    Product,
    conjugate_gradients,
    largest_eigenvalue,
    smallest_eigenvalue,
)

CONDITION_LIMIT = 1e12
"""Condition number of G above which its solution is dominated by rounding, so that a ridge is used.

Rounding to float64 then changes scores by 1e-3 dB or more.
"""

# Ridges relative to the largest eigenvalue, tried in this order until a system is solved.
_RIDGES = (1e-11, 1e-9, 1e-7)
_MAX_REFINEMENTS = 20
_TOLERANCE = 1e-9
# Ridge of the preconditioner of conjugate gradients, relative to the largest eigenvalue, with which
# the recursion is still accurate. This many steps then suffice up to `CONDITION_LIMIT`.
_GUIDE_RIDGE = 1e-10


def solve(lags: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve G x = right for several systems at once, and compute their condition numbers.

    Above `CONDITION_LIMIT` a ridge is added to the diagonal of a matrix: 1e-11 of its largest
    eigenvalue, or more if necessary. The signals filtered with x are then still determined,
    although the part of x in the null space is not.

    Args:
        lags: Correlations r, shape (system, lag, channel, channel), float64.
        right: Shape (system, delay, channel, column).

    Returns:
        x, shape (system, delay, channel, column), and the condition numbers of the matrices, shape
        (system,): ratios of their extreme eigenvalues, accurate to about one percent up to
        `CONDITION_LIMIT`. inf: too large to be computed.
    """
    everywhere = torch.ones(len(lags), dtype=torch.bool, device=lags.device)
    largest = largest_eigenvalue(_product(lags), lags, everywhere)
    # The ridge of museval; it only matters for signals whose energy is of this order.
    shift = torch.full_like(largest, torch.finfo(lags.dtype).eps)
    x, is_solved, product, inverse = _attempt(lags, right, shift)
    smallest_inverse = largest_eigenvalue(_exact(product, inverse), lags, is_solved)
    condition = torch.where(is_solved, largest * smallest_inverse, math.inf)
    if not bool(is_solved.all()):
        added = _GUIDE_RIDGE * largest
        guide = _inverse(_shifted(lags, shift + added))[0]
        smallest = smallest_eigenvalue(product, guide, added, lags)
        condition = torch.where(is_solved, condition, largest / smallest)
        if bool((~is_solved & (condition <= CONDITION_LIMIT)).any()):
            again, residual = _refine(product, _guided(product, guide), right)
            is_solved_now = _is_small(residual, right) & ~is_solved
            x = torch.where(is_solved_now[:, None, None, None], again, x)
            is_solved |= is_solved_now
            unknown = ~is_solved & (condition <= CONDITION_LIMIT)
            condition = torch.where(unknown, math.inf, condition)
    is_solved &= condition <= CONDITION_LIMIT
    for ridge in _RIDGES:
        if bool(is_solved.all()):
            break
        again, is_solved_now, _, _ = _attempt(lags, right, shift + ridge * largest)
        x = torch.where((is_solved_now & ~is_solved)[:, None, None, None], again, x)
        is_solved |= is_solved_now
    assert bool(is_solved.all())
    return x, condition


def _attempt(
    lags: torch.Tensor, right: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Product, Product]:
    """Solve (G + shift) x = right; return x, which systems were solved, and products."""
    shifted = _shifted(lags, shift)
    product = _product(shifted)
    inverse, is_definite = _inverse(shifted)
    x, residual = _refine(product, inverse, right)
    return x, is_definite & _is_small(residual, right), product, inverse


def _shifted(lags: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Add a number to the diagonals of matrices."""
    shifted = lags.clone()
    shifted[:, 0].diagonal(dim1=-2, dim2=-1).add_(shift[:, None])
    return shifted


def _is_small(residual: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Tell which systems are solved, from their residuals."""
    error, scale = (torch.linalg.vector_norm(r, dim=(1, 2)) for r in (residual, right))
    is_small: torch.Tensor = (error <= _TOLERANCE * scale).all(1)
    return is_small


def _guided(product: Product, guide: Product) -> Product:
    """Return the approximate product with the inverse of G, by conjugate gradients.

    Args:
        product: The product with G.
        guide: Preconditioner: the product with the inverse of a matrix close to G.
    """
    return lambda right: conjugate_gradients(product, guide, right)[0]


def _refine(
    product: Product, inverse: Product, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve with an inexact inverse by refinement; return the solution and its residual."""
    x, residual = torch.zeros_like(right), right
    error = torch.full_like(right[:, :1, :1], math.inf)
    for _ in range(_MAX_REFINEMENTS):
        next_x = x + inverse(residual)
        next_residual = right - product(next_x)
        next_error = torch.linalg.vector_norm(next_residual, dim=(1, 2), keepdim=True)
        is_better = next_error < error / 2  # false for NaN
        if not bool(is_better.any()):
            break
        x = torch.where(is_better, next_x, x)
        residual = torch.where(is_better, next_residual, residual)
        error = torch.where(is_better, next_error, error)
    return x, residual


def _exact(product: Product, inverse: Product) -> Product:
    return lambda right: _refine(product, inverse, right)[0]  # refined to full accuracy


def _circle(lags: torch.Tensor) -> torch.Tensor:
    """Compute the spectra of a circulant matrix of twice the size that contains G in its corner."""
    backward = lags[:, 1:].flip(1).mT
    circle = torch.cat([lags, torch.zeros_like(lags[:, :1]), backward], 1)
    spectra: torch.Tensor = torch.fft.rfft(circle, dim=1)
    return spectra


def _product(lags: torch.Tensor) -> Product:
    """Return the product of G with arrays of shape (system, delay, channel, column)."""
    return _convolution(_circle(lags), lags.shape[1])


def _convolution(spectra: torch.Tensor, length: int) -> Product:
    def convolve(x: torch.Tensor) -> torch.Tensor:
        products = spectra @ torch.fft.rfft(x, n=2 * length, dim=1)
        convolved: torch.Tensor = torch.fft.irfft(products, n=2 * length, dim=1)
        return convolved[:, :length]

    return convolve


def _inverse(lags: torch.Tensor) -> tuple[Product, torch.Tensor]:
    """Return the product with the inverse of G, and which matrices are positive definite.

    With predictors a (a[0] = 1) and b (b[L-1] = 1), G a = (V_a, 0, ..., 0) and
    G b = (0, ..., 0, V_b). Their convolutions, as lower triangular block Toeplitz matrices, give

        G^-1 = T(a) V_a^-1 T(a)^T - T(b') V_b^-1 T(b')^T,    b' = (0, b[0], ..., b[L-2]).
    """
    systems, length, channels, _ = lags.shape
    a = lags.new_zeros((systems, length * channels, channels))
    b = torch.zeros_like(a)  # b is aligned at its end, a at its start
    a[:, :channels] = b[:, -channels:] = torch.eye(channels, dtype=lags.dtype, device=lags.device)
    v_a = v_b = lags[:, 0]
    reverse = lags.flip(1).transpose(1, 2).flatten(2)
    is_definite = torch.ones(systems, dtype=torch.bool, device=lags.device)
    for size in range(channels, length * channels, channels):
        # Residual of the new last equation for a extended by one delay.
        failure = reverse[:, :, -channels - size : -channels] @ a[:, :size]
        (root_a, info_a), (root_b, info_b) = map(torch.linalg.cholesky_ex, (v_a, v_b))
        is_definite &= (info_a == 0) & (info_b == 0)
        of_b = torch.cholesky_solve(failure, root_b)
        of_a = torch.cholesky_solve(failure.mT, root_a)
        longer_a, longer_b = a[:, : size + channels], b[:, -size - channels :]
        next_a = longer_a - longer_b @ of_b
        longer_b -= longer_a @ of_a
        longer_a.copy_(next_a)
        v_a, v_b = v_a - failure.mT @ of_b, v_b - failure @ of_a
    (root_a, info_a), (root_b, info_b) = map(torch.linalg.cholesky_ex, (v_a, v_b))
    is_definite &= (info_a == 0) & (info_b == 0)
    b = torch.cat([torch.zeros_like(b[:, :channels]), b[:, :-channels]], 1)
    spectra = []
    for predictor, root in ((a, root_a), (b, root_b)):
        scaled = torch.linalg.solve_triangular(root.mT, predictor, upper=True, left=False)
        spectra.append(torch.fft.rfft(scaled.unflatten(1, (length, channels)), 2 * length, 1))
    (forward, forward_t), (backward, backward_t) = (
        (_convolution(s, length), _convolution(s.mH, length)) for s in spectra
    )
    return lambda x: forward(forward_t(x)) - backward(backward_t(x)), is_definite
