"""How large data may be where no setting says otherwise."""

EXPANDED_LIMIT_BYTES = 4 * 2**30
"""Once it is unpacked and read into memory."""

MAX_CELL_CHARACTERS = 1_000_000
"""In a field of delimited text. Python's csv module keeps one limit for the whole process: who reads sets this one."""
