"""``python -m fairguard``."""

from fairguard.cli import main

main()
