"""Uploaded data sets: received, inspected in a process of their own, listed, removed."""
