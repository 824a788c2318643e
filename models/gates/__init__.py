"""What a version is judged by before an alias moves to it: a file for each gate."""
