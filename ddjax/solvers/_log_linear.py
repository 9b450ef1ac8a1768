"""A straight line through the logarithm of a loss curve, and where it is straight."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "LogLinearFit",
    "decrease_window",
    "log_linear_fit",
    "longest_linear_window",
]

Window = tuple[int, int]
Curve = Float[Array, " s"] | Float[np.ndarray, " s"]


class LogLinearFit(NamedTuple):
    """log(loss_s - optimum) = intercept + slope s over start <= s < stop.

    Attributes:
      slope: per step.
      intercept: at step 0.
      r_squared: share of the variance of the logarithm that the line explains.
      standard_error: of the slope by ordinary least squares, which takes residuals for
        independent.
      corrected_standard_error: that times sqrt((1 + rho) / (1 - rho)), rho being the
        residuals' correlation from one step to the next where it is positive: losses
        of neighbouring steps are anything but independent.
      start: first step of the window.
      stop: the step after its last.
    """

    slope: float
    intercept: float
    r_squared: float
    standard_error: float
    corrected_standard_error: float
    start: int
    stop: int


def _logarithm(losses: Curve, optimum: float) -> np.ndarray:
    values = np.asarray(losses, np.float64) - optimum
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        raise ValueError(
            f"the loss at step {bad[0]} is {values[bad[0]] + optimum:.6g}, but a "
            f"logarithm needs finite losses above the optimum {optimum:.6g}"
        )
    return np.log(values)


def _shortest_window(count: int, shortest: int | None) -> int:
    chosen = max(10, count // 10) if shortest is None else shortest
    if not 3 <= chosen <= count:
        raise ValueError(
            f"the shortest window is {chosen} steps, but must be from 3 to the "
            f"{count} steps of the curve"
        )
    return chosen


def log_linear_fit(
    losses: Curve, *, window: Window | None = None, optimum: float = 0.0
) -> LogLinearFit:
    """Least squares through log(loss - optimum), in float64 on the host.

    >>> import numpy as np
    >>> fit = log_linear_fit(3.0 * np.exp(-0.25 * np.arange(20.0)))
    >>> f"{fit.slope:.4f} {fit.r_squared:.4f}"
    '-0.2500 1.0000'

    Args:
      losses: one per step.
      window: (start, stop) to fit over, from one of the rules or by hand; all steps
        when None.
      optimum: what the loss tends to. The paper fits log loss itself (0); Theorem 2.9
        is about the loss above the local minimum.

    Raises:
      ValueError: a loss that is not above the optimum, or a window of fewer than 3
        steps or outside the curve.
    """
    start, stop = window or (0, len(losses))
    if not (0 <= start and start + 3 <= stop <= len(losses)):
        raise ValueError(
            f"the window is ({start}, {stop}), but needs 3 steps or more within the "
            f"{len(losses)} of the curve"
        )
    y = _logarithm(losses, optimum)[start:stop]
    x = np.arange(start, stop, dtype=np.float64)
    n, centre = len(y), x.mean()
    spread = np.sum((x - centre) ** 2)
    slope = float(np.sum((x - centre) * (y - y.mean())) / spread)
    intercept = float(y.mean() - slope * centre)
    residuals = y - intercept - slope * x
    variance = np.sum((y - y.mean()) ** 2)
    unexplained = np.sum(residuals**2)
    error = float(np.sqrt(unexplained / (n - 2) / spread))
    rho = 0.0
    if unexplained > 0:
        rho = float(np.sum(residuals[1:] * residuals[:-1]) / unexplained)
        rho = min(max(rho, 0.0), 1 - 2 / n)
    return LogLinearFit(
        slope=slope,
        intercept=intercept,
        r_squared=float(1 - unexplained / variance) if variance > 0 else 0.0,
        standard_error=error,
        corrected_standard_error=error * float(np.sqrt((1 + rho) / (1 - rho))),
        start=start,
        stop=stop,
    )


def _r_squared_of_windows(
    sums: np.ndarray, squares: np.ndarray, moments: np.ndarray, n: int
) -> np.ndarray:
    """R² of a falling line for every window of n steps; 0 where it does not fall."""
    starts = np.arange(len(sums) - n)
    total, square = sums[n:] - sums[:-n], squares[n:] - squares[:-n]
    moment = moments[n:] - moments[:-n] - starts * total - (n - 1) / 2 * total
    spread = n * (n * n - 1) / 12
    variance = square - total**2 / n
    noise = 1e-12 * max(float(squares[-1]), 1e-300)
    safe = np.where(variance > noise, variance, 1.0)
    return np.where((variance > noise) & (moment < 0), moment**2 / spread / safe, 0.0)


def longest_linear_window(
    losses: Curve,
    *,
    r_squared: float = 0.99,
    shortest: int | None = None,
    optimum: float = 0.0,
) -> Window:
    """The longest window in which the logarithm falls along a line.

    The rule: of all windows of at least `shortest` consecutive steps whose line by
    least squares falls and has an R² of at least `r_squared`, the longest; of several,
    the one with the highest R². This is the paper's practice made definite ("we define
    the training run so that the R² value is comparable across all trials"). Since R²
    picks the window, R² is then no evidence of linearity: the share of the run that the
    window covers is. `decrease_window` does not look at the fit.

    Args:
      losses: one per step.
      r_squared: what counts as straight, in (0, 1).
      shortest: steps, at least 3; a tenth of the curve and at least 10 when None.
      optimum: as in `log_linear_fit`.

    Returns:
      (start, stop).

    Raises:
      ValueError: a loss that is not above the optimum, a bad `shortest`, or no such
        window; the message has the best R² of the shortest windows.
    """
    y = _logarithm(losses, optimum)
    y = y - y.mean()
    fewest = _shortest_window(len(y), shortest)
    sums, squares, moments = (
        np.concatenate([[0.0], np.cumsum(part)])
        for part in (y, y * y, y * np.arange(len(y)))
    )
    found = np.zeros(1)
    for n in range(len(y), fewest - 1, -1):
        found = _r_squared_of_windows(sums, squares, moments, n)
        start = int(found.argmax())
        if found[start] >= r_squared:
            return start, start + n
    raise ValueError(
        f"no window of {fewest} steps or more falls along a line with R² >= "
        f"{r_squared}; the best of {fewest} steps has {found.max():.4f}"
    )


def decrease_window(
    losses: Curve,
    *,
    upper: float = 0.9,
    lower: float = 0.1,
    optimum: float = 0.0,
) -> Window:
    """The window in which the logarithm falls through the middle of its range.

    The rule: with the first logarithm as 1 and the least as 0, from the first step at
    or below `upper` to the first one at or below `lower`. It cuts warm-up and cool-down
    without a look at the fit.

    Args:
      losses: one per step.
      upper: where the window starts, below 1.
      lower: where it ends, above 0.
      optimum: as in `log_linear_fit`.

    Returns:
      (start, stop), at least 3 steps.

    Raises:
      ValueError: a loss that is not above the optimum, levels out of order, or a curve
        that does not fall, or falls within fewer than 3 steps.
    """
    if not 0 < lower < upper < 1:
        raise ValueError(
            f"levels are {upper} and {lower}, but need 0 < lower < upper < 1"
        )
    y = _logarithm(losses, optimum)
    fall = y[0] - y.min()
    if not fall > 0:
        raise ValueError("the loss never falls below its first value")
    share = (y - y.min()) / fall
    start = int(np.argmax(share <= upper))
    stop = int(np.argmax(share <= lower)) + 1
    if stop - start < 3:
        raise ValueError(
            f"the loss falls from {upper} to {lower} of its range within "
            f"{stop - start} steps; a line needs 3"
        )
    return start, stop
