"""The online side: HTTP, engines, processes, jobs, metrics."""
