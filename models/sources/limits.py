"""How large data may be where no setting says otherwise."""

EXPANDED_LIMIT_BYTES = 4 * 2**30
"""Once it is unpacked and read into memory."""
