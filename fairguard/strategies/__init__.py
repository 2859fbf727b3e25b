"""hypothesis strategies for inputs like the data's own: rows, counterfactual pairs of rows, changed images.

They compose like any other strategy. The data is read when the first example is drawn, not when a test is collected.
Knows no model.
"""

from fairguard.schema import Schema
from fairguard.strategies.changed_images import ChangedImage, images
from fairguard.strategies.tabular import counterfactual_pairs, rows

__all__ = ["ChangedImage", "Schema", "counterfactual_pairs", "images", "rows"]
