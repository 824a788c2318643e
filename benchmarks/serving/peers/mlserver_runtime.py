"""MLServer: a custom runtime, since it has none for ONNX or Keras files. The file is the model's `uri`."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri
from network import Network


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        self._network = Network(await get_model_uri(self.settings))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        output = NumpyCodec.encode_output("output", self._network(rows))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
