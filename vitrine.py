"""The Python client of a Vitrine server, sync and async. Needs httpx alone (shap and numpy for `explain_as_shap`).

Each call is described once, by a function that builds a `Call`: the request, and how its answer is read. `Client` and
`AsyncClient` only carry it, so that both have the same methods:

>>> with Client("http://127.0.0.1:8000") as vitrine:                                      # doctest: +SKIP
...     vitrine.predict("diabetes", [[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]])

>>> async with AsyncClient("http://127.0.0.1:8000") as vitrine:                           # doctest: +SKIP
...     await vitrine.predict("diabetes", [[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]])

Nothing is sent again silently: a call that fails raises, and the caller decides. The exceptions only read, and
carry on for as long as `patience_seconds` says: `follow`, `follow_explanation` and `events` go on when the server is
being restarted.

VitrineError          any failure; `str()` of it is a full sentence
`- ServerUnreachable  no answer came: nobody listens there, the connection broke, or the time was up
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from threading import Event as _Event
from time import monotonic
from typing import Any, BinaryIO, Generic, Literal, ParamSpec, TypeVar, overload
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
FINISHED = ("succeeded", "failed", "cancelled")
_PICTURES = {"png": "image/png", "svg": "image/svg+xml"}

P = ParamSpec("P")
T = TypeVar("T")
Document = dict[str, Any]


class VitrineError(Exception):
    """A call that failed.

    Attributes:
        problem: the problem document (RFC 9457) that the server answered; empty when no answer came.
        status: its HTTP status, or 0.
        title, detail: what is wrong, in short and in full.
        errors: for values, each with `pointer`, `expected`, `received`.
        request_id: what to tell whoever runs the server; its logs have it.
    """

    def __init__(self, problem: Mapping[str, Any], request_id: str | None = None) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or "The server gave no reason.")
        self.problem = dict(problem)
        self.status: int = problem.get("status", 0)
        self.title: str = problem.get("title", "")
        self.detail: str = str(self)
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        self.request_id = request_id


class ServerUnreachable(VitrineError):
    """No answer came."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job's stream: `progress` or `status`, with the job's document in `data`."""

    id: str
    event: str
    data: Any


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that goes with a request, and the fields beside it."""

    name: str
    file: Path | BinaryIO
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_seconds: float = 0.0
    """What the server may take beyond the client's own timeout, because the call allows it to."""
    accepted: tuple[int, ...] = ()
    """Statuses that are answers here though they are errors elsewhere."""
    upload: Upload | None = None


def _json(response: httpx.Response) -> Any:
    return response.json()


def _finished_file(response: httpx.Response) -> bytes:
    """The bytes of a picture or table; while there is only progress, that is not it."""
    if response.status_code == 202:
        detail = "The explanation is not finished yet. Wait for it with follow_explanation."
        raise VitrineError({"status": 202, "title": "Not finished", "detail": detail})
    return response.content


def predict(model: str, inputs: Sequence[Any], *, version: int | str = "champion") -> Call[list[Document]]:
    """One prediction per row, in order."""
    body = {"model": model, "version": version, "inputs": list(inputs)}
    return Call("POST", "/predict", lambda response: response.json()["predictions"], body)


def predict_answer(model: str, inputs: Sequence[Any], *, version: int | str = "champion") -> Call[Document]:
    """The whole answer: `predictions`, the number of the `version`, and the `id` that a record is found by."""
    return Call("POST", "/predict", _json, {"model": model, "version": version, "inputs": list(inputs)})


def prediction(prediction_id: str) -> Call[Document]:
    """A recorded prediction, with the inputs it was made from as far as they are kept."""
    return Call("GET", f"/predictions/{_quoted(prediction_id)}", _json)


def explain_prediction(prediction_id: str, *, rows: Sequence[int] | None = None, **options: Any) -> Call[Document]:
    """Explains a recorded prediction with the version that made it. Options are those of `POST /explain`.

    Args:
        rows: which rows of the request, from 0; without them, all.
    """
    body = options if rows is None else {"rows": list(rows), **options}
    path = f"/predictions/{_quoted(prediction_id)}/explain"
    return Call("POST", path, _json, body, extra_seconds=_deadline_seconds(options))


def explain(model: str, inputs: Sequence[Any], *, version: int | str = "champion", **options: Any) -> Call[Document]:
    """The explanations of some rows with their receipt. Options are those of `POST /explain`."""
    body = {"model": model, "version": version, "inputs": list(inputs), **options}
    return Call("POST", "/explain", _json, body, extra_seconds=_deadline_seconds(options))


def explain_as_shap(model: str, inputs: Sequence[Any], *, version: int | str = "champion", **options: Any) -> Call[Any]:
    """The same as a `shap.Explanation`; see `to_shap`. `top_k` would leave out attributions that shap must have.

    Raises:
        ValueError: when `top_k` is given.
    """
    if options.get("top_k") is not None:
        raise ValueError("A shap.Explanation needs every attribution. Leave out top_k.")
    call = explain(model, inputs, version=version, **options)
    return Call(
        call.method,
        call.path,
        lambda response: to_shap(response.json(), inputs),
        call.body,
        extra_seconds=call.extra_seconds,
    )


def picture(
    model: str,
    row: Any,
    *,
    kind: Literal["png", "svg"] = "png",
    width: int = 800,
    theme: Literal["light", "dark"] = "light",
    version: int | str = "champion",
    **options: Any,
) -> Call[bytes]:
    """A picture of the explanation of one row and one target, as the bytes of a file."""
    return Call(
        "POST",
        "/explain",
        lambda response: response.content,
        {"model": model, "version": version, "inputs": [row], **options},
        {"width": width, "theme": theme},
        {"Accept": _PICTURES[kind]},
        _deadline_seconds(options),
    )


def explain_later(
    model: str, inputs: Sequence[Any], *, version: int | str = "champion", **options: Any
) -> Call[Document]:
    """Asks for explanations to be fetched later: returns their progress at once, and their `id`.

    See `explanation` and `follow_explanation`. A server that keeps no explanations answers with them instead.
    """
    body = {"model": model, "version": version, "inputs": list(inputs), **options}
    return Call(
        "POST", "/explain", _json, body, headers={"Prefer": "respond-async"}, extra_seconds=_deadline_seconds(options)
    )


def explain_global(
    model: str, inputs: Sequence[Any] | None = None, *, version: int | str = "champion", **options: Any
) -> Call[Document]:
    """Asks how a version explains many rows: returns the progress at once, and the `id` to fetch the answer by.

    Args:
        inputs: the rows; without them, those of the data set that `dataset` names ("test", "validation", "train",
            "background").
        options: those of `POST /explain/global`.
    """
    body = {"model": model, "version": version, **options}
    if inputs is not None:
        body["inputs"] = list(inputs)
    return Call("POST", "/explain/global", _json, body)


def explanation(explanation_id: str) -> Call[Document]:
    """A recorded explanation; its progress, with a `status`, while it is being computed."""
    return Call("GET", f"/explanations/{_quoted(explanation_id)}", _json)


def explanation_picture(
    explanation_id: str,
    *,
    kind: Literal["png", "svg"] = "png",
    width: int = 800,
    theme: Literal["light", "dark"] = "light",
    plot: Literal["bar", "beeswarm", "dependence"] | None = None,
    target: str | None = None,
    feature: str | None = None,
) -> Call[bytes]:
    """A picture of a recorded explanation, as the bytes of a file. `plot`, `target`, `feature`: of a global one."""
    asked = {"width": width, "theme": theme, "plot": plot, "target": target, "feature": feature}
    return Call(
        "GET",
        f"/explanations/{_quoted(explanation_id)}",
        _finished_file,
        params={name: value for name, value in asked.items() if value is not None},
        headers={"Accept": _PICTURES[kind]},
    )


def explanation_table(explanation_id: str) -> Call[bytes]:
    """The attributions of a global explanation as a Parquet file: a line for each row, target and feature."""
    headers = {"Accept": "application/vnd.apache.parquet"}
    path = f"/explanations/{_quoted(explanation_id)}"
    return Call("GET", path, _finished_file, headers=headers)


def cancel_explanation(explanation_id: str) -> Call[None]:
    """Cancels an explanation that is not done."""
    return Call("DELETE", f"/explanations/{_quoted(explanation_id)}", lambda _: None)


def replay(explanation_id: str) -> Call[Document]:
    """Computes a recorded explanation again: `identical`, `max_difference`, `differs_in`, `explanation`."""
    return Call("POST", f"/explanations/{_quoted(explanation_id)}/replay", _json, extra_seconds=600)


def train(spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Call[Document]:
    """Queues a training job and returns its document. With the same key and specification, it is the same job."""
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return Call("POST", "/train", _json, dict(spec), headers=headers)


def import_version(
    model: str, file: str | Path | BinaryIO, spec: Mapping[str, Any], *, idempotency_key: str | None = None
) -> Call[Document]:
    """Queues the import of a `.keras` file as a version of a model, and returns the job's document.

    Args:
        file: a path, or a file opened for reading bytes; the caller closes it.
        spec: a `dataset`, or what is `given`: features, labels, background (docs/training.md).
    """
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    source = Path(file) if isinstance(file, str) else file
    upload = Upload("model.keras", source, {"spec": json.dumps(dict(spec))})
    place = f"/models/{_quoted(model)}/versions"
    return Call("POST", place, _json, headers=headers, upload=upload, extra_seconds=3600)


def retrain(model: str, *, version: int | str = "champion", warm_start: bool = False, **keys: Any) -> Call[Document]:
    """Queues a job with the specification of an earlier version, over which `keys` are merged; returns its document.

    `warm_start` begins with the weights of that version.
    """
    return Call("POST", "/train", _json, {"model": model, "from": version, "warm_start": warm_start, **keys})


def schedules() -> Call[list[Document]]:
    """Every schedule of training."""
    return Call("GET", "/schedules", lambda response: response.json()["schedules"])


def schedule(name: str) -> Call[Document]:
    """The schedule of a model."""
    return Call("GET", f"/models/{_quoted(name)}/schedule", _json)


def set_schedule(name: str, cron: str, spec: Mapping[str, Any] | None = None) -> Call[Document]:
    """Trains a model again at the times of a cron expression in UTC; by default as its champion was, by then."""
    body = {"cron": cron} if spec is None else {"cron": cron, "spec": dict(spec)}
    return Call("PUT", f"/models/{_quoted(name)}/schedule", _json, body)


def pause_schedule(name: str) -> Call[Document]:
    """No run begins until it is resumed."""
    return Call("POST", f"/models/{_quoted(name)}/schedule/pause", _json)


def resume_schedule(name: str) -> Call[Document]:
    """Runs begin again; those that fell into the pause are not made up for."""
    return Call("POST", f"/models/{_quoted(name)}/schedule/resume", _json)


def remove_schedule(name: str) -> Call[None]:
    """Trains a model by the clock no more."""
    return Call("DELETE", f"/models/{_quoted(name)}/schedule", lambda _: None)


def job(job_id: str) -> Call[Document]:
    """The document of a job."""
    return Call("GET", f"/train/{_quoted(job_id)}", _json)


def jobs(*, model: str | None = None, limit: int = 100) -> Call[list[Document]]:
    """The documents of the latest jobs, newest first."""
    params = {"limit": limit} if model is None else {"limit": limit, "model": model}
    return Call("GET", "/train", lambda response: response.json()["jobs"], params=params)


def cancel(job_id: str) -> Call[Document]:
    """Asks for a job to stop, and returns its document."""
    return Call("POST", f"/train/{_quoted(job_id)}/cancel", _json)


def resume(job_id: str) -> Call[Document]:
    """Has a cancelled or failed job go on from its last checkpoint, and returns its document."""
    return Call("POST", f"/train/{_quoted(job_id)}/resume", _json)


def trials(job_id: str) -> Call[list[Document]]:
    """What the search of a job has tried, in the order in which the trials began."""
    return Call("GET", f"/train/{_quoted(job_id)}/trials", lambda response: response.json()["trials"])


def logs(job_id: str, *, tail: int | None = None) -> Call[str]:
    """What the trainer of a job has logged, or its last lines."""
    params = {} if tail is None else {"tail": tail}
    return Call("GET", f"/train/{_quoted(job_id)}/logs", lambda response: response.text, params=params)


def upload(source: str | Path | BinaryIO, *, name: str | None = None, target: str | None = None) -> Call[Document]:
    """Uploads a data set (CSV, Parquet, NPZ, a ZIP of images in class folders); returns it with its report.

    The same content sent again is the same data set. Nothing is held in memory: the file is sent as it is read.

    Args:
        source: a path, or a file opened for reading bytes that can be sought; the caller closes it.
        name: what it is called in lists; by default the name of the file.
        target: a column that the report is to describe as the target, too.
    """
    if isinstance(source, str | Path):
        called, file = name or Path(source).name, Path(source)
    else:
        called, file = name or Path(str(getattr(source, "name", "data"))).name, source
    fields = {} if target is None else {"target": target}
    return Call("POST", "/datasets", _json, upload=Upload(called, file, fields), extra_seconds=3600)


def datasets() -> Call[list[Document]]:
    """The uploaded data sets, newest first."""
    return Call("GET", "/datasets", lambda response: response.json()["datasets"])


def dataset(dataset_id: str, *, target: str | None = None) -> Call[Document]:
    """One data set with its report; with a `target`, also class balance, outliers and suspected leaks."""
    params = {} if target is None else {"target": target}
    return Call("GET", f"/datasets/{_quoted(dataset_id)}", _json, params=params, extra_seconds=600)


def remove_dataset(dataset_id: str) -> Call[None]:
    """Removes a data set that no version and no job needs."""
    return Call("DELETE", f"/datasets/{_quoted(dataset_id)}", lambda _: None)


def models() -> Call[list[Document]]:
    """Every model, with its aliases and versions."""
    return Call("GET", "/models", lambda response: response.json()["models"])


def model(name: str) -> Call[Document]:
    """One model with its versions."""
    return Call("GET", f"/models/{_quoted(name)}", _json)


def card(name: str, version: int | str = "champion") -> Call[Document]:
    """The model card of a version."""
    return Call("GET", f"/models/{_quoted(name)}/versions/{_quoted(str(version))}", _json)


def surrogate(name: str, version: int | str = "champion") -> Call[Document]:
    """A small decision tree that says nearly what a version says, with its `fidelity`, as nested nodes from `root`."""
    return Call("GET", f"/models/{_quoted(name)}/versions/{_quoted(str(version))}/surrogate", _json)


def surrogate_text(name: str, version: int | str = "champion") -> Call[str]:
    """The same tree as indented lines."""
    path = f"/models/{_quoted(name)}/versions/{_quoted(str(version))}/surrogate"
    return Call("GET", path, lambda response: response.text, headers={"Accept": "text/plain"})


def surrogate_picture(
    name: str,
    version: int | str = "champion",
    *,
    kind: Literal["png", "svg"] = "png",
    width: int = 800,
    theme: Literal["light", "dark"] = "light",
) -> Call[bytes]:
    """The same tree as a picture, as the bytes of a file."""
    return Call(
        "GET",
        f"/models/{_quoted(name)}/versions/{_quoted(str(version))}/surrogate",
        lambda response: response.content,
        params={"width": width, "theme": theme},
        headers={"Accept": _PICTURES[kind]},
    )


def promote(
    name: str, version: int | str, *, alias: str = "champion", force: bool = False, reason: str = ""
) -> Call[Document]:
    """Points an alias at a version; `force` (with a reason) also where its gates failed."""
    body = {"version": version, "force": force, "reason": reason}
    return Call("PUT", f"/models/{_quoted(name)}/aliases/{_quoted(alias)}", _json, body)


def rollback(name: str, *, reason: str = "") -> Call[Document]:
    """Points champion back at what it was before."""
    return Call("POST", f"/models/{_quoted(name)}/rollback", _json, {"reason": reason})


def split_traffic(name: str, shares: Mapping[str, int]) -> Call[Document]:
    """Splits the requests that name no version between aliases: parts of a hundred, such as `{"champion": 90,
    "challenger": 10}`. All for the champion ends the split."""
    return Call("PUT", f"/models/{_quoted(name)}/traffic", _json, dict(shares))


def prune(*, keep_versions: int | None = None, model: str | None = None, dry_run: bool = False) -> Call[Document]:
    """Deletes old versions that nothing needs; `dry_run` only says which."""
    body = {"keep_versions": keep_versions, "model": model, "dry_run": dry_run}
    return Call("POST", "/models/prune", _json, body)


def ready() -> Call[Document]:
    """What `/health/ready` says: `status` is ready, degraded, starting or draining; the last two are no error here."""
    return Call("GET", "/health/ready", _json, accepted=(503,))


class _Method(Generic[P, T]):
    """A call as a method: of a `Client` it sends and returns, of an `AsyncClient` it is awaited."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Call[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        build = self._build
        if client is None:
            return build

        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(build(*args, **kwargs))

        return update_wrapper(send, build)


class _Methods:
    predict = _Method(predict)
    predict_answer = _Method(predict_answer)
    prediction = _Method(prediction)
    explain_prediction = _Method(explain_prediction)
    explain = _Method(explain)
    explain_as_shap = _Method(explain_as_shap)
    picture = _Method(picture)
    explain_later = _Method(explain_later)
    explain_global = _Method(explain_global)
    explanation = _Method(explanation)
    explanation_picture = _Method(explanation_picture)
    explanation_table = _Method(explanation_table)
    cancel_explanation = _Method(cancel_explanation)
    replay = _Method(replay)
    train = _Method(train)
    import_version = _Method(import_version)
    retrain = _Method(retrain)
    schedules = _Method(schedules)
    schedule = _Method(schedule)
    set_schedule = _Method(set_schedule)
    pause_schedule = _Method(pause_schedule)
    resume_schedule = _Method(resume_schedule)
    remove_schedule = _Method(remove_schedule)
    job = _Method(job)
    jobs = _Method(jobs)
    cancel = _Method(cancel)
    resume = _Method(resume)
    trials = _Method(trials)
    logs = _Method(logs)
    upload = _Method(upload)
    datasets = _Method(datasets)
    dataset = _Method(dataset)
    remove_dataset = _Method(remove_dataset)
    models = _Method(models)
    model = _Method(model)
    card = _Method(card)
    surrogate = _Method(surrogate)
    surrogate_text = _Method(surrogate_text)
    surrogate_picture = _Method(surrogate_picture)
    promote = _Method(promote)
    rollback = _Method(rollback)
    split_traffic = _Method(split_traffic)
    prune = _Method(prune)
    ready = _Method(ready)


class Client(_Methods):
    """Talks to one server and waits for its answers. Every method raises `VitrineError`.

    Args:
        timeout_seconds: for each answer; a call with `deadline_ms` waits that much longer.
        transport: how requests travel; for tests.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Sends a call and reads its answer."""
        with _opened(call) as file, _in_words(str(self._http.base_url)):
            response = self._http.send(_request(self._http, call, self._timeout_seconds, file))
        return _answer(call, response)

    def follow(self, job_id: str, *, every_seconds: float = 0.5, patience_seconds: float = 60.0) -> Iterator[Document]:
        """The document of a job, again and again until it has finished."""
        patience = _Patience(patience_seconds)
        while True:
            try:
                document = self.job(job_id)
            except VitrineError as error:
                patience.bear(error)
            else:
                patience.renew()
                yield document
                if document["status"] in FINISHED:
                    return
            _Event().wait(every_seconds)

    def follow_explanation(
        self, explanation_id: str, *, every_seconds: float = 0.5, patience_seconds: float = 60.0
    ) -> Iterator[Document]:
        """The progress of an explanation, again and again; the last document is the explanation itself.

        Raises:
            VitrineError: with what ended it, when it failed or was cancelled.
        """
        patience = _Patience(patience_seconds)
        while True:
            try:
                document = self.explanation(explanation_id)
            except VitrineError as error:
                patience.bear(error)
            else:
                patience.renew()
                yield document
                if "receipt" in document:
                    return
            _Event().wait(every_seconds)

    def events(
        self, job_id: str, *, last_event_id: str | None = None, patience_seconds: float = 60.0
    ) -> Iterator[Event]:
        """The events of a job as they happen, until it has finished."""
        stream = _EventStream(last_event_id, patience_seconds)
        while not stream.finished:
            try:
                with (
                    _in_words(str(self._http.base_url)),
                    self._http.stream("GET", **stream.request(job_id)) as response,
                ):
                    if not response.is_success:
                        response.read()
                        raise _problem(response)
                    yield from stream.read(response.iter_lines())
            except VitrineError as error:
                stream.patience.bear(error)
            if not stream.finished:
                _Event().wait(stream.pause_seconds)


class AsyncClient(_Methods):
    """The same as `Client`, to be awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_seconds, transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Sends a call and reads its answer."""
        with _opened(call) as file, _in_words(str(self._http.base_url)):
            response = await self._http.send(_request(self._http, call, self._timeout_seconds, file))
        return _answer(call, response)

    async def follow(
        self, job_id: str, *, every_seconds: float = 0.5, patience_seconds: float = 60.0
    ) -> AsyncIterator[Document]:
        """The document of a job, again and again until it has finished."""
        patience = _Patience(patience_seconds)
        while True:
            try:
                document = await self.job(job_id)
            except VitrineError as error:
                patience.bear(error)
            else:
                patience.renew()
                yield document
                if document["status"] in FINISHED:
                    return
            await asyncio.sleep(every_seconds)

    async def follow_explanation(
        self, explanation_id: str, *, every_seconds: float = 0.5, patience_seconds: float = 60.0
    ) -> AsyncIterator[Document]:
        """The progress of an explanation, again and again; the last document is the explanation itself.

        Raises:
            VitrineError: with what ended it, when it failed or was cancelled.
        """
        patience = _Patience(patience_seconds)
        while True:
            try:
                document = await self.explanation(explanation_id)
            except VitrineError as error:
                patience.bear(error)
            else:
                patience.renew()
                yield document
                if "receipt" in document:
                    return
            await asyncio.sleep(every_seconds)

    async def events(
        self, job_id: str, *, last_event_id: str | None = None, patience_seconds: float = 60.0
    ) -> AsyncIterator[Event]:
        """The events of a job as they happen, until it has finished."""
        stream = _EventStream(last_event_id, patience_seconds)
        while not stream.finished:
            try:
                with _in_words(str(self._http.base_url)):
                    async with self._http.stream("GET", **stream.request(job_id)) as response:
                        if not response.is_success:
                            await response.aread()
                            raise _problem(response)
                        async for line in response.aiter_lines():
                            for event in stream.read([line]):
                                yield event
            except VitrineError as error:
                stream.patience.bear(error)
            if not stream.finished:
                await asyncio.sleep(stream.pause_seconds)


def to_shap(answer: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    """The answer of `POST /explain` as a `shap.Explanation`, for shap's own plots.

    Columns: `values` and `data` have shape `(n_rows, n_features)`, images `(n_rows, height, width)`. Where several
    targets were asked for, `values` has one more axis at its end, and `base_values` shape `(n_rows, n_targets)`.
    `error_std` has the standard errors (NaN where nothing was sampled). `output_names` names the targets: one name
    where each row has the same one target, else a list of them.

    Args:
        inputs: the rows that were explained; an image is drawn over its own pixels.
    """
    import numpy as np
    import shap

    rows = [explanation["targets"] for explanation in answer["explanations"]]

    def gather(pick: Callable[[Document], Any]) -> Any:
        # (n_rows, n_targets, ...) -> (n_rows, ..., n_targets), without that axis where there is one target.
        values = np.array([[pick(target) for target in targets] for targets in rows], dtype=float)
        return np.moveaxis(values, 1, -1) if len(rows[0]) > 1 else values[:, 0]

    names = [[target["target"] for target in targets] for targets in rows]
    if "heatmap" in rows[0][0]:
        values = gather(lambda target: target["heatmap"]["attributions"])
        errors = gather(lambda target: _errors_of(target["heatmap"]))
        feature = rows[0][0]["heatmap"]["feature"]
        data = np.array([row[feature] if isinstance(row, Mapping) else row for row in inputs], dtype=float)
        data = data.reshape(*data.shape[:3])  # one channel needs no axis of its own, and shap draws it without
        feature_names = None
    else:
        values = gather(lambda target: [item["attribution"] for item in target["attributions"]])
        errors = gather(lambda target: [item["standard_error"] for item in target["attributions"]])
        data = np.array([[item["value"] for item in targets[0]["attributions"]] for targets in rows], dtype=object)
        if all(isinstance(value, int | float) for value in data.flat):
            data = data.astype(float)
        feature_names = [item["feature"] for item in rows[0][0]["attributions"]]
    if len(rows[0]) > 1:
        output_names: Any = names[0]
    else:
        different = dict.fromkeys(targets[0] for targets in names)
        output_names = next(iter(different)) if len(different) == 1 else None
    return shap.Explanation(
        values=values,
        base_values=gather(lambda target: target["base_value"]),
        data=data,
        feature_names=feature_names,
        output_names=output_names,
        error_std=errors,
    )


def _errors_of(heatmap: Mapping[str, Any]) -> Any:
    if heatmap["standard_errors"] is not None:
        return heatmap["standard_errors"]
    return [[None] * len(line) for line in heatmap["attributions"]]


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _deadline_seconds(options: Mapping[str, Any]) -> float:
    deadline_ms = options.get("deadline_ms")
    return deadline_ms / 1000 if isinstance(deadline_ms, int | float) else 0.0


@contextmanager
def _opened(call: Call[Any]) -> Iterator[BinaryIO | None]:
    """The file of an upload; one that was given by its path is closed in the end."""
    source = call.upload.file if call.upload else None
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield source


def _request(
    client: httpx.Client | httpx.AsyncClient, call: Call[Any], timeout_seconds: float, file: BinaryIO | None
) -> httpx.Request:
    return client.build_request(
        call.method,
        call.path,
        json=call.body,
        data=dict(call.upload.fields) if call.upload else None,
        files={"file": (call.upload.name, file, "application/octet-stream")} if call.upload and file else None,
        params=call.params,
        headers=call.headers,
        timeout=timeout_seconds + call.extra_seconds,
    )


def _answer(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success and response.status_code not in call.accepted:
        raise _problem(response)
    try:
        return call.read(response)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        detail = f"What answers at {response.url} is not a Vitrine server: its answer cannot be read."
        raise VitrineError({"status": response.status_code, "title": "Not an answer", "detail": detail}) from error


def _problem(response: httpx.Response) -> VitrineError:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        text = response.text.strip()[:500] or "no reason given"
        problem = {"status": response.status_code, "title": response.reason_phrase, "detail": text}
    return VitrineError({"status": response.status_code, **problem}, response.headers.get("X-Request-Id"))


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Says what a failure of the connection means."""
    try:
        yield
    except httpx.UnsupportedProtocol:
        detail = f"{url!r} is not the address of a server. Expected http://HOST:PORT."
    except httpx.ConnectError as error:
        detail = f"Nobody answers at {url} ({error}). Start a server with `vitrine up`, or give its address."
    except httpx.ConnectTimeout:
        detail = f"Connecting to {url} took too long. Is the address right, and the machine up?"
    except httpx.TimeoutException:
        detail = f"{url} did not answer in time. Give more time with timeout_seconds."
    except httpx.HTTPError as error:
        detail = f"The connection to {url} broke before the answer came ({error}). Whether it was done is not known."
    except httpx.InvalidURL as error:
        detail = f"{url!r} is not the address of a server ({error}). Expected http://HOST:PORT."
    else:
        return
    raise ServerUnreachable({"status": 0, "title": "The server cannot be reached", "detail": detail})


class _Patience:
    """How long a call that only reads goes on without an answer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self._until = monotonic() + self._seconds

    def bear(self, error: VitrineError) -> None:
        """Raises the error when it will not pass by itself, or when the time is up."""
        passing = isinstance(error, ServerUnreachable) or error.status == 503
        if not passing or monotonic() >= self._until:
            raise error


class _EventStream:
    """Reads server-sent events (the HTML standard's `text/event-stream`), over as many connections as it takes."""

    pause_seconds = 0.5

    def __init__(self, last_event_id: str | None, patience_seconds: float) -> None:
        self.patience = _Patience(patience_seconds)
        self.finished = False
        self._last_id = last_event_id or ""
        self._begin()

    def _begin(self) -> None:
        self._id, self._event, self._data = self._last_id, "message", list[str]()

    def request(self, job_id: str) -> dict[str, Any]:
        self._begin()
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        # A comment comes every 15 seconds: silence for longer means that nobody is there.
        return {"url": f"/train/{_quoted(job_id)}/events", "headers": headers, "timeout": httpx.Timeout(10, read=45)}

    def read(self, lines: Iterable[str]) -> Iterator[Event]:
        for line in lines:
            self.patience.renew()
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                # Only now: an event that the connection broke in half is asked for again.
                self._last_id = self._id
                if self._data:
                    data = json.loads("\n".join(self._data))
                    self.finished = isinstance(data, dict) and data.get("status") in FINISHED
                    yield Event(self._last_id, self._event, data)
                self._begin()
            elif name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            elif name == "id":
                self._id = value
