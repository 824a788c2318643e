"""The layers between raw units and the network, and back: they are saved inside the Keras model."""

from models.preprocessing.inputs import preprocessed
from models.preprocessing.targets import in_target_units, target_scale

__all__ = ["in_target_units", "preprocessed", "target_scale"]
