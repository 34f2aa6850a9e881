"""Trials with Ray Tune: Optuna suggests the options, Ray places the trials on this machine or a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError
from yolopose.config import TuneOptions
from yolopose.model.tuning.plan import SearchPlan
from yolopose.model.tuning.study import completed, counted, open_study, seconds_left, space_of_plan
from yolopose.model.tuning.trial import run_trial


def run_with_ray(folder: Path, plan: SearchPlan, options: TuneOptions, points: list[dict[str, Any]]) -> None:
    """Run the trials as tasks of Ray Tune and add each to the study when it ends, so that a killed search resumes.

    Ray stops bad trials early by ASHA. A trial uses the CPUs of this machine divided by `parallel`, and
    `gpu_per_trial`. On a cluster, the run folder, the data and the network must be on storage that all machines share.

    Args:
        folder: the run folder.
        plan: the search.
        options: limits and resources.
        points: the first trials of a new search.

    Raises:
        TrainError: Ray cannot run the trials.
    """
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    study = open_study(folder, plan, options)
    remaining = options.iterations - len(counted(study))
    left = seconds_left(study, plan, options)
    if remaining <= 0 or (left is not None and left <= 0):
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    if not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False)
    earlier = completed(study)
    space = {name: dimension.distribution() for name, dimension in space_of_plan(plan).items()}
    mode = "min" if plan.metric == "pixels" else "max"
    search = OptunaSearch(
        space,
        metric="score",
        mode=mode,
        seed=options.seed + len(study.trials),
        points_to_evaluate=[dict(trial.params) for trial in earlier] if earlier else points[:remaining],
        evaluated_rewards=[trial.value for trial in earlier] if earlier else None,
    )
    target = str(folder.resolve())

    def trainable(config: dict[str, Any]) -> None:
        from ray import tune as ray_tune

        def report(score: float, step: int) -> bool:
            ray_tune.report({"score": score, "epoch": step + 1})  # Ray ends the process of a trial that it stops
            return False

        name = ray_tune.get_context().get_trial_id()
        score = run_trial(plan, config, Path(target) / "trials" / f"trial-{name}", report, None)
        ray_tune.report({"score": score, "epoch": 1_000_000})

    cpus = max(1, (os.cpu_count() or 1) // options.parallel)
    resources: dict[str, float] = {"cpu": min(cpus, int(ray.cluster_resources().get("CPU", 1)))}
    if options.gpu_per_trial:
        resources["gpu"] = options.gpu_per_trial
    scheduler = None
    if options.prune:
        scheduler = ASHAScheduler(time_attr="epoch", max_t=1_000_000, grace_period=options.grace_period)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            metric="score",
            mode=mode,
            num_samples=remaining,
            search_alg=search,
            scheduler=scheduler,
            max_concurrent_trials=options.parallel if options.parallel > 1 else None,
            time_budget_s=left,
        ),
        run_config=tune.RunConfig(
            name="ray", storage_path=target, callbacks=[_study_callback(study, space)], verbose=0
        ),
    )
    results = tuner.fit()
    if not completed(study) and results.errors:
        raise TrainError(f"All trials of Ray Tune failed; the first error: {results.errors[0]}")


def _study_callback(study: Any, space: dict[str, Any]) -> Any:
    """Return a callback of Ray Tune that adds each finished trial to the study."""
    import optuna
    from ray.tune import Callback

    class AddToStudy(Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            result = trial.last_result
            whole = result.get("epoch") == 1_000_000
            state = optuna.trial.TrialState.COMPLETE if whole else optuna.trial.TrialState.PRUNED
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: trial.config[name] for name in space},
                    distributions=space,
                    value=result["score"] if whole else None,
                    state=state,
                    user_attrs={"seconds": float(result.get("time_total_s", 0.0))},
                )
            )

    return AddToStudy()
