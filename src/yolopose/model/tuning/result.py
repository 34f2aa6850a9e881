"""Files and result of a search: best options, table of trials, plots, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.config import TuneOptions
from yolopose.evaluate.plots import new_figure, save_figure
from yolopose.model.tuning.compare import HeldOutComparison
from yolopose.model.tuning.plan import SearchPlan
from yolopose.model.tuning.study import OUT_OF_TIME, completed, counted, short_value, trial_seconds
from yolopose.results.tables import TableMixin

if TYPE_CHECKING:
    from optuna.study import Study

BEST_FILE = "best.yaml"
_MIN_IMPORTANCE = 8  # completed trials from which the importance of options is estimated
_STATES = {"COMPLETE": "completed", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}


@dataclass(slots=True)
class TuneResult(TableMixin):
    """Result of a search; as a table it has one row per trial.

    Attributes:
        best: best values of the searched options.
        options: all options to train with, those of `best.yaml`.
        score: score of the best trial, on images that the search used.
        rows: trials: number, state, score, seconds and the searched options.
        importance: share of the variance of the scores that each option explains; empty with few trials.
        comparison: the best options against the defaults on held-out images; None with `repeats=0`.
        save_dir: the run folder.
    """

    best: dict[str, Any]
    options: dict[str, Any]
    score: float
    rows: list[dict[str, Any]]
    importance: dict[str, float]
    comparison: HeldOutComparison | None
    save_dir: Path

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dictionary per trial.

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        return [
            {key: round(value, decimals) if isinstance(value, float) else value for key, value in row.items()}
            for row in self.rows
        ]


def write_results(
    folder: Path, plan: SearchPlan, study: Study, options: TuneOptions, comparison: HeldOutComparison | None
) -> TuneResult:
    """Write `best.yaml`, `trials.csv`, `report.md` and the plots, and log the result.

    Raises:
        OutputError: a file cannot be written.
    """
    best = study.best_trial
    result = TuneResult(
        best=dict(best.params),
        options={**plan.fixed, **best.params},
        score=float(study.best_value),
        rows=_rows(study, plan),
        importance=_importance(study),
        comparison=comparison,
        save_dir=folder,
    )
    verdict = comparison.verdict if comparison else "They were not compared with the defaults on other images."
    header = f"# Best training options of {len(result.rows)} trials. {verdict}\n"
    write_text(folder / BEST_FILE, header + to_yaml(result.options))
    write_text(folder / "trials.csv", result.to_csv(decimals=7))
    write_text(folder / "report.md", _report(result, plan))
    if options.plots:
        _plot_history(result, plan, folder / "history.png")
        _plot_importance(result, folder / "importance.png")
        _plot_slices(result, plan, folder / "slices.png")
    LOGGER.info(_report(result, plan))
    LOGGER.info(f"Results saved to {folder}. Train with: yolo pose train model={plan.model} data={plan.data} "
                f"cfg={folder / BEST_FILE}")  # fmt: skip
    return result


def _rows(study: Study, plan: SearchPlan) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for trial in counted(study):
        state = _STATES.get(trial.state.name, trial.state.name)
        if trial.user_attrs.get(OUT_OF_TIME):
            state = OUT_OF_TIME
        row: dict[str, Any] = {
            "trial": trial.number,
            "state": state,
            "defaults": bool(trial.user_attrs.get("defaults", False)),
            "score": trial.value if trial.value is not None and state == "completed" else "",
            "seconds": round(trial_seconds(trial), 1),
        }
        rows.append({**row, **{name: trial.params.get(name, "") for name in plan.space}})
    return rows


def _importance(study: Study) -> dict[str, float]:
    import warnings

    import optuna

    if len(completed(study)) < _MIN_IMPORTANCE:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return {name: float(value) for name, value in
                    optuna.importance.get_param_importances(study, evaluator=evaluator).items()}  # fmt: skip
    except (ValueError, RuntimeError):  # scores without variance
        return {}


def _report(result: TuneResult, plan: SearchPlan) -> str:
    states = [row["state"] for row in result.rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    better = "lower" if plan.metric == "pixels" else "higher"
    lines = [
        "# Search of training options",
        "",
        f"{len(result.rows)} trials ({counts}) of {plan.model} on {plan.data}.",
        f"Score: {plan.metric} ({better} is better).",
        "",
        "## On the images of the search",
        "",
        f"Best score {result.score:.4f}; it is optimistic, since the best of many trials is chosen by these images.",
    ]
    defaults = [row["score"] for row in result.rows if row["defaults"] and row["score"] != ""]
    if defaults:
        lines.append(f"Score of the defaults in the search: {defaults[0]:.4f}.")
    lines += ["", "## On held-out images", ""]
    if result.comparison is None:
        lines.append("Not compared (repeats=0): whether the best options are better than the defaults is not known.")
    else:
        lines += _comparison_lines(result.comparison)
    lines += ["", "## Best options", "", "| option | value | importance |", "|---|---|---|"]
    for name, value in result.options.items():
        share = f"{result.importance[name]:.2f}" if name in result.importance else ""
        lines.append(f"| {name} | {short_value(value)} | {share} |")
    return "\n".join(lines) + "\n"


def _comparison_lines(comparison: HeldOutComparison) -> list[str]:
    difference = comparison.difference
    rows = [
        f"| {name} | {np.mean(values):.4f} | {', '.join(f'{value:.4f}' for value in values)} |"
        for name, values in (("defaults", comparison.defaults), ("best options", comparison.tuned))
    ]
    return [
        f"{comparison.verdict} Measured on {comparison.held_out}, which the search did not see.",
        "",
        "| options | mean | trainings |",
        "|---|---|---|",
        *rows,
        "",
        f"Difference {difference.value:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f} (over "
        "images and seeds).",
    ]


def _scored(result: TuneResult) -> list[Mapping[str, Any]]:
    return [row for row in result.rows if row["score"] != ""]


def _plot_history(result: TuneResult, plan: SearchPlan, path: Path) -> None:
    rows = _scored(result)
    figure = new_figure(8, 4.5)
    if figure is None:
        return
    numbers, scores = [row["trial"] for row in rows], np.array([row["score"] for row in rows], float)
    best = np.minimum.accumulate(scores) if plan.metric == "pixels" else np.maximum.accumulate(scores)
    axes = figure.subplots()
    axes.scatter(numbers, scores, color="#0b2a6f", label="trial")
    axes.step(numbers, best, where="post", color="#b3541e", label="best so far")
    axes.set(xlabel="trial", ylabel=plan.metric, title="History")
    axes.legend()
    save_figure(figure, path)


def _plot_importance(result: TuneResult, path: Path) -> None:
    if not result.importance:
        return
    figure = new_figure(7, 0.35 * len(result.importance) + 1.2)
    if figure is None:
        return
    names = list(result.importance)[::-1]
    axes = figure.subplots()
    axes.barh(names, [result.importance[name] for name in names], color="#0b2a6f")
    axes.set(xlabel="share of the variance (PED-ANOVA)", title="Importance of the options")
    save_figure(figure, path)


def _plot_slices(result: TuneResult, plan: SearchPlan, path: Path) -> None:
    rows = _scored(result)
    columns = min(4, len(plan.space))
    height = -(-len(plan.space) // columns)
    figure = new_figure(3.2 * columns, 2.6 * height)
    if figure is None:
        return
    grid = np.atleast_1d(figure.subplots(height, columns, squeeze=False)).reshape(-1)
    for axes in grid[len(plan.space) :]:
        axes.set_visible(False)
    for axes, (name, values) in zip(grid, plan.space.items(), strict=False):
        x = [str(row[name]) if values["choices"] else row[name] for row in rows]
        axes.scatter(x, [row["score"] for row in rows], c=[row["trial"] for row in rows], cmap="viridis", s=14)
        axes.set(xlabel=name, xscale="log" if values["log"] else "linear")
    figure.suptitle(f"{plan.metric} by option (darker: earlier trials)")
    save_figure(figure, path)
