"""`python -m heavylift` is the `heavylift` command."""

from heavylift.cli import main

main()
