"""Equivalent models that separate faster and cannot be trained."""

from sfisep_core.models.inference.faster import faster, side_by_side

__all__ = ["faster", "side_by_side"]
