"""TensorFlow Serving's REST API and KServe's V1 protocol, on the data plane of `/predict` and `/explain`."""
