"""Tables, arrays and images as files: read, profiled, turned into facts and raw data."""
