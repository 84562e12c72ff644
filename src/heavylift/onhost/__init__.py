"""What runs on a host: stdlib only, Python 3.9 or later, sent over SSH as one zip application, nothing resident.

Each module is a command of `heavylift-host COMMAND JSON`, which prints one JSON document and exits with 0, or prints
one line that begins with `heavylift: ` on stderr and exits with 1. Nothing here imports the rest of heavylift.
"""
