"""What a FastAPI tutorial would write: an endpoint whose body and answer are pydantic models.

`python fastapi_bare.py PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from network import networks
from pydantic import BaseModel

served = networks()
app = FastAPI()


class Question(BaseModel):
    model: str
    inputs: list[list[float] | list[list[float]]]


class Answer(BaseModel):
    predictions: list[list[float]]


@app.post("/predict")
async def predict(question: Question) -> Answer:
    outputs: Any = served[question.model](question.inputs)
    return Answer(predictions=outputs.tolist())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
