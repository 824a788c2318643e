"""What a training job is asked to do: every key known, every default filled in. A file for each part."""

from models.spec.whole import ModelName, TrainingSpec, fill_in, parse_spec, read_spec

__all__ = ["ModelName", "TrainingSpec", "fill_in", "parse_spec", "read_spec"]
