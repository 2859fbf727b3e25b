"""Everything that comes in: model files as Predictors, labelled rows as Sources. Knows nothing of fairness."""
