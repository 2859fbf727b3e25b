"""Counts become a verdict. Sees arrays of counts and a policy only: no models, no files, no screens."""
