"""Methods of `YOLO` that make more of a network: search of training options, calibration of confidences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolopose.base.errors import UsageError
from yolopose.base.isolation import default_errors
from yolopose.base.log import quiet
from yolopose.config import CalibrateOptions, CheckedOptions, TuneOptions
from yolopose.model.base import ModelBase

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolopose.config.kwargs import CalibrateKwargs, TuneKwargs
    from yolopose.evaluate.calibration import CalibrationResult
    from yolopose.model.tuning import TuneResult


class ImprovingMixin(ModelBase):
    """The methods `tune` and `calibrate`."""

    def calibrate(
        self, data: str | Path | Mapping[str, Any] | None = None, **options: Unpack[CalibrateKwargs]
    ) -> CalibrationResult:
        """Make confidences the shares of correct detections and keypoints; the object is calibrated afterwards.

        The order of the confidences of a class does not change, and neither does mAP. `predict`, `val`, `export` and
        `save` of this object apply the calibration.

        Args:
            data: data YAML, or a dictionary with its keys, with images that the network was not trained on.
            **options: `split`, `run`, `method`, …: `yolo help calibrate` lists them.

        Returns:
            Factors and errors before and after; files are in its `save_dir`, the weights in `weights`.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DataError: the data set cannot be used with this network, or has too few detections.
            OutputError: a file cannot be written.
        """
        return self._calibrate(self._check("calibrate", options, data=data))

    @default_errors
    def _calibrate(self, given: CheckedOptions) -> CalibrationResult:
        self._require_own()
        options = cast(CalibrateOptions, self._defaults.complete(given))
        if self._untrained:
            raise UsageError(f"{self.model_name} is a new network with random weights: train it before calibration.")
        from yolopose.model.calibrating import calibrate

        args = dict(self.ckpt.train_args) if self.ckpt else {}
        with quiet(not options.verbose):
            result = calibrate(self.model, self._metadata, options, Path(self.model_name).stem, args)
        self._set_calibration(result.scale)
        return result

    def tune(
        self,
        data: str | Path | Mapping[str, Any] | None = None,
        use_ray: bool = False,
        iterations: int = TuneOptions.iterations,
        **options: Unpack[TuneKwargs],
    ) -> TuneResult:
        """Search training options that make a better network, and test them on images that the search did not see.

        Args:
            data: data YAML, or a dictionary with its keys; by default the one that the weights were trained on.
            use_ray: run the trials with Ray Tune.
            iterations: maximum number of trials.
            **options: `minutes`, `parallel`, `space`, `metric`, …, and all options of `train`, which every trial uses:
                `yolo help tune` lists them.

        Returns:
            The best options and the comparison with the defaults; files, `best.yaml` among them, are in its `save_dir`.

        Raises:
            UsageError: an unknown or impossible option, or no data set is known.
            DependencyError: optuna, or ray with `use_ray`, is not installed.
            DataError: the data set cannot be used.
            TrainError: no trial was completed, or there is nothing to resume.
            OutputError: a file cannot be written.
            KeyboardInterrupt: the search was interrupted; `resume=FOLDER` continues it.
        """
        return self._tune(self._check("tune", options, data=data, use_ray=use_ray, iterations=iterations))

    @default_errors
    def _tune(self, given: CheckedOptions) -> TuneResult:
        self._require_own()
        from yolopose.model.tuning import tune

        options = cast(TuneOptions, self._defaults.complete(given))
        with quiet(not options.verbose):
            return tune(self, options, given)
