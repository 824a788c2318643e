"""What routes answer, as the OpenAPI document says it. Nothing is validated against these while serving: routes write
their answers themselves, and tests ask a running server for every one of them."""

from service.answers.base import Answers
from service.answers.base import ProtocolError as ProtocolError
from service.answers.native import NATIVE
from service.answers.v1 import V1
from service.answers.v2 import V2

ANSWERS: Answers = {**NATIVE, **V1, **V2}
