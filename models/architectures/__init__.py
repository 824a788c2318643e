"""The networks a specification can name, one file each."""
