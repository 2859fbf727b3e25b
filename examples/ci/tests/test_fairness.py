"""The pruned model must treat every group as well as the dense one does. What is judged stands in pyproject.toml."""

from fairguard import fairness_preserved


@fairness_preserved
def test_pruned_model(): ...
