"""The commands that talk to a server, and the one that examines an installation."""
