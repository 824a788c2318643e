"""Bodies of requests that are not JSON: CSV, NPY, Arrow, images. Their libraries are imported when they are needed."""
