"""From a regressed model to a verified fair sparse one: select again, retrain under a constraint, prove it.

Knows torch and the check; knows nothing of the command line or of how a report looks.
"""
