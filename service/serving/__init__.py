"""From a request to an answer: engines, served versions, the pool, the compute process."""
