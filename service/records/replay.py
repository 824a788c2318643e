"""Computes a recorded explanation again, and says whether it comes out the same and what is different."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
import orjson

from service.metrics import RequestMeter
from service.records.record import ExplanationRecord
from service.records.store import ExplanationStore
from service.serving.explainer import Explained, Explainer
from service.serving.pool import ModelPool
from service.serving.served_model import ServedModel
from service.serving.wording import player_identities

_OF_THE_OCCASION = frozenset({"duration_ms", "recorded"})
"""Parts of a receipt that say when and not how."""
NEAR = 1e-6
"""How far predictions in batches of other sizes may be apart, as a part of the output's spread, or of a value that is
larger: some units in the last place."""
_IDENTITY = frozenset({"feature", "channel", "window", "token", "span"})
"""Parts of an attribution that say whose it is."""


class Replayer:
    def __init__(self, store: ExplanationStore, pool: ModelPool, explainer: Explainer) -> None:
        self._store, self._pool, self._explainer = store, pool, explainer

    async def replay(self, explanation: str, meter: RequestMeter) -> dict[str, Any]:
        """Makes an explanation again with the version, method, seed and evaluations of its record, not its clock.

        Raises:
            UnknownExplanation, InputsNotKept, InputsRedacted, RecordsUnavailable: as their messages say.
            UnknownModel, UnknownVersion, CorruptVersion: when the version that made it is no more, or not as it was.
            ComputeUnavailable: when the compute process died twice.
        """
        started = monotonic()
        record = await asyncio.to_thread(self._store.get, explanation)
        resolved = record.resolved()
        meter.end("read")
        served = await self._pool.resolve(record.model, str(record.version))
        meter.resolved(record.model, record.version, len(resolved.rows))
        predictions = await served.evaluate_anew(resolved.rows, served.signature.outputs[0])
        meter.end("engine")
        again = await self._explainer.run(
            served,
            resolved,
            predictions,
            meter,
            order=record.replay_order(resolved.order),
            identity=(record.id, record.created_at),
            started=started,
        )
        return compare(record, again)


def compare(record: ExplanationRecord, again: Explained) -> dict[str, Any]:
    """The answer of a replay.

    Returns:
        `identical`: whether every recorded number came out again, bit for bit (but see `same_prediction`);
        `max_difference`: the largest between two attributions, in units of the output; `differs_in`: the fields of the
        receipt that are different now.
    """
    recorded = orjson.loads(record.document)
    computed = orjson.loads(again.answer)
    computed["receipt"]["recorded"] = True
    return {
        "identical": all(
            _found_again(_explained(was), _explained(now))
            and same_prediction(was["prediction"], now["prediction"], again.served)
            for was, now in zip(recorded["explanations"], computed["explanations"], strict=True)
        ),
        "max_difference": max(
            _difference(was, now, players, attributions)
            for row, made, players, estimate in zip(
                recorded["explanations"],
                computed["explanations"],
                map(partial(_players, again), range(len(again.estimates))),
                again.estimates,
                strict=True,
            )
            for was, now, attributions in zip(row["targets"], made["targets"], estimate.attributions.T, strict=True)
        ),
        "differs_in": differing_fields(recorded["receipt"], computed["receipt"]),
        "explanation": computed,
    }


def same_prediction(recorded: dict[str, Any], computed: dict[str, Any], served: ServedModel) -> bool:
    """Whether a row's prediction came out again: bit for bit; or, where its last bits depend on how many rows of other
    requests went to the engine with it, as near as they then are. Attributions do not depend on that."""
    if served.engine.batch_invariant is not False:
        return _found_again(recorded, computed)
    signature = served.signature
    spread = served.artifact.card["spread"][signature.outputs[0]]
    was, now = (row.get("probabilities") or {signature.target: row.get("value")} for row in (recorded, computed))
    return recorded.get("label") == computed.get("label") and all(
        _is_near(was[name], now[name], spread[name] or 0.0) for name in was
    )


def _is_near(recorded: float | None, computed: float | None, spread: float) -> bool:
    if recorded is None or computed is None:
        return recorded is computed
    return abs(recorded - computed) <= NEAR * max(spread, abs(recorded))


def _explained(row: dict[str, Any]) -> dict[str, Any]:
    """A row's explanation without its prediction."""
    return {name: value for name, value in row.items() if name != "prediction"}


def _players(explained: Explained, row: int) -> list[dict[str, Any]]:
    signature, order = explained.served.signature, explained.resolved.order
    if signature.image is not None:
        return []
    return player_identities(signature, explained.resolved.rows[row], order.options, order.given_of(row))


def differing_fields(recorded: dict[str, Any], computed: dict[str, Any], within: str = "") -> list[str]:
    """Names of the fields of two receipts that differ, those of inner objects with a dot."""
    names = []
    for name in sorted(recorded.keys() | computed.keys()):
        was, now = recorded.get(name), computed.get(name)
        if within + name in _OF_THE_OCCASION or was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            names += differing_fields(was, now, f"{within}{name}.")
        else:
            names.append(within + name)
    return names


def _found_again(recorded: Any, computed: Any) -> bool:
    """Whether all that was recorded is there again. What a later release says beside it does not count."""
    if isinstance(recorded, dict):
        return isinstance(computed, dict) and all(
            name in computed and _found_again(value, computed[name]) for name, value in recorded.items()
        )
    if isinstance(recorded, list):
        return (
            isinstance(computed, list) and len(recorded) == len(computed) and all(map(_found_again, recorded, computed))
        )
    return recorded == computed


def _difference(
    recorded: dict[str, Any], computed: dict[str, Any], players: list[dict[str, Any]], attributions: np.ndarray
) -> float:
    """The largest difference between the recorded attributions of a target and new ones, `(n_players,)`.

    Args:
        computed: the target as it is worded now.
        players: how each player of the row is named; none of an image.
    """
    if "heatmap" in recorded:
        was, now = (np.array(target["heatmap"]["attributions"]) for target in (recorded, computed))
    else:
        shares = recorded["attributions"]
        places = [players.index({key: share[key] for key in share if key in _IDENTITY}) for share in shares]
        was = np.array([*(share["attribution"] for share in shares), recorded["omitted"]])
        now = np.array([*attributions[places], np.delete(attributions, places).sum()])
    return float(np.abs(was - now).max())
