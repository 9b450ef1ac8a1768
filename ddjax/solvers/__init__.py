"""Solvers and procedures on the host, in float64 with NumPy and SciPy.

What here is neither jittable nor differentiable and tells the user how far it got:
regularised risks to a duality gap (`erm`), what that gap proves (`certificates`),
distilled sets in closed form (`analytic`), the rate of a run (`convergence`) and the
curvature that it follows from (`curvature`).
"""

from ddjax.solvers import analytic, certificates, convergence, curvature, erm

__all__ = ["analytic", "certificates", "convergence", "curvature", "erm"]
