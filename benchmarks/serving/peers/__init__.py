"""Servers to measure beside ours, each as its documentation writes one. They run in environments of their own."""
