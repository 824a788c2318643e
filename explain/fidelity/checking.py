"""All checks of an explainer of a model: what a version's gate and card ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from explain.fidelity import figures, laws, trials
from explain.fidelity.report import FidelityReport
from explain.fidelity.sample import IMAGE_EFFORT, Effort, Sample
from explain.fidelity.subject import Explain, Subject
from explain.game import Outputs, Rows


def check_fidelity(
    subject: Subject,
    rows: Rows,
    *,
    other: Explain | None = None,
    randomized: Subject | None = None,
    effort: Effort | None = None,
    seed: int = 0,
) -> FidelityReport:
    """Checks an explainer of a model on some rows; for each row, its predicted target is explained.

    A check fails only on evidence: where its figures would come about with a probability below 0.001 if explanations
    were right, or where what must hold exactly does not. All is deterministic in the arguments.

    Args:
        subject: the model and its explainer.
        rows: `(n_rows, *row_shape)`; 32 are enough for columns, 8 for images. One row alone is evidence of little.
        other: an independent method on the same model, for disagreement.
        randomized: the same network with `randomized_weights`, and its explainer; the same background rows and players.
        effort: by default what takes seconds for a small model, less per row for images.

    Returns:
        A finding for each check, in a fixed order.
    """
    counted = _Counted(subject.evaluate)
    usual = IMAGE_EFFORT if rows.ndim == 4 else Effort()
    sample = Sample(replace(subject, evaluate=counted), rows, effort or usual, seed)
    findings = (
        laws.efficiency(sample),
        laws.dummy(sample),
        laws.symmetry(sample),
        laws.linearity(sample),
        laws.determinism(sample),
        trials.exact_error(sample),
        trials.independent_error(sample),
        *trials.order_of_players(sample),
        *trials.dependence_on_model(sample, randomized),
        figures.mu_fidelity(sample),
        figures.infidelity(sample),
        figures.max_sensitivity(sample),
        figures.background_stability(sample),
        figures.disagreement(sample, other),
    )
    first = sample.estimates[0]
    return FidelityReport(first.method, first.estimand, len(rows), seed, counted.rows, findings)


class _Counted:
    """A model that counts the rows it is given."""

    def __init__(self, evaluate: Callable[[Rows], Outputs]) -> None:
        self._evaluate, self.rows = evaluate, 0

    def __call__(self, rows: Rows) -> Outputs:
        self.rows += len(rows)
        return self._evaluate(rows)
