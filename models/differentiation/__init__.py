"""Reverse-mode differentiation of ONNX graphs: from a network to a graph of its gradient."""
