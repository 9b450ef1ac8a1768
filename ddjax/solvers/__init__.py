"""Solvers and procedures on the host, in float64 with NumPy and SciPy.

What here is neither jittable nor differentiable and tells the user how far it got:
regularised risks to a duality gap (`erm`), what that gap proves (`certificates`),
distilled sets in closed form (`analytic`), and the rate of a run (`convergence`).
"""

from ddjax.solvers import analytic, certificates, convergence, erm

__all__ = ["analytic", "certificates", "convergence", "erm"]
