"""Durable background work: the queue, the workflow, the worker, the trainer."""
