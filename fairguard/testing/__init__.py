"""What tests call: the typed marker, the plain function, and what the pytest plugin needs of the package.

Knows checks and the lock; of pytest only the marker's name, so that the plugin stays one thin file.
"""
