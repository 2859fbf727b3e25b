"""Models and rows that show what a check says, made on the spot: real digits, or generated applicants.

Every demo leaves a folder that stands alone: model files, rows, the network's source and a configuration.
"""
