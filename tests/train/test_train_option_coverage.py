"""Every training option has a test of its effect."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError
from yolopose.config import TrainOptions

LOOP, OPTIONS, SCHEDULE, OPTIMIZER = (
    f"train/test_train_{part}" for part in ("loop", "options", "schedule", "optimizer")
)
SAMPLING, LOADER, OPERATIONS = (f"train/test_train_feed_{part}" for part in ("sampling", "loader", "operations"))

TABLE: dict[str, tuple[str, ...]] = {
    f"{LOOP}::test_a_run_writes_its_files_and_learns": (
        "model",
        "data",
        "epochs",
        "project",
        "save_period",
        "plots",
    ),
    "train/test_train_recipe::test_reference_changes_nothing": ("recipe",),
    "train/test_train_recipe::test_a_run_does_not_end_below_its_initial_weights": ("val_initial",),
    "train/test_train_ema::test_time_constants_of_a_short_run": ("ema_decay", "ema_tau"),
    "criterion/test_criterion_losses::test_l1_keypoint_loss_pulls_at_every_distance": ("kpt_l1",),
    f"{OPTIMIZER}::test_backbone_and_neck_learn_slower": ("lr_backbone", "lr_keypoints"),
    "train/test_train_initial_weights::test_option_of_a_run": ("kpt_prior",),
    "train/test_train_head_warmup::test_option_of_a_run": ("head_steps",),
    "train/test_train_visibility::test_key_of_data_and_model_yaml": ("visibility",),
    f"{LOOP}::test_save_false_writes_no_weights": ("save",),
    "train/test_train_more_epochs::test_a_finished_run_goes_on_as_if_it_had_not_ended": ("keep_state",),
    "train/test_train_feed_user_transforms::test_a_run_with_own_transforms": ("augmentations",),
    f"{LOOP}::test_an_interrupted_run_equals_an_uninterrupted_one": ("resume",),
    f"{LOOP}::test_patience_time_limit_and_no_validation": ("patience", "time", "val"),
    f"{LOOP}::test_copies_initial_weights_and_seeds_the_rest": ("pretrained",),
    f"{LOOP}::test_class_weights_are_copied_by_name": ("cls_remap",),
    f"{LOOP}::test_trains_with_option": ("single_cls",),
    f"{LOOP}::test_frozen_layers_keep_their_weights": ("freeze",),
    "train/test_train_option_coverage::test_exist_ok_reuses_a_folder": ("name", "exist_ok"),
    "train/test_train_option_coverage::test_rare_classes_have_larger_weights": ("cls_pw",),
    f"{OPTIONS}::test_gains_scale_their_losses": ("box", "pose", "kobj", "cls", "dfl"),
    f"{OPTIONS}::test_input_size": ("imgsz", "multi_scale"),
    f"{OPTIONS}::test_precision_and_memory_format": ("amp", "channels_last"),
    f"{OPTIONS}::test_seed_and_compile": ("seed", "compile"),
    f"{OPTIONS}::test_validation_uses_its_options": ("split", "conf", "iou", "max_det", "half", "save_json"),
    "train/test_train_autotune::test_nothing_is_measured_without_autotune": ("autotune",),
    f"{OPTIONS}::test_deterministic_kernels": ("deterministic",),
    "train/test_train_yolo26::test_losses_have_names_and_the_flow_is_trained": ("rle", "assigner"),
    "train/test_train_auto_batch::test_a_run_logs_and_stores_its_batch": ("batch",),
    "train/test_train_loggers::test_each_epoch_is_logged": ("loggers",),
    "train/test_train_distributed_devices::test_one_process_per_gpu": ("device",),
    f"{OPTIMIZER}::test_parameter_groups_equal_the_reference": ("optimizer", "weight_decay"),
    f"{OPTIMIZER}::test_named_optimizers_use_their_hyperparameters_and_train": ("lr0", "momentum", "warmup_bias_lr"),
    f"{OPTIMIZER}::test_decay_is_scaled_to_the_accumulated_batch": ("nbs",),
    f"{SCHEDULE}::test_decays_from_one_to_lrf": ("lrf", "cos_lr"),
    f"{SCHEDULE}::test_equals_the_recorded_trainings": ("warmup_epochs", "warmup_momentum"),
    f"{LOADER}::test_mosaic_ends_with_close_mosaic": ("close_mosaic", "mosaic"),
    f"{LOADER}::test_batches_depend_on_seed_and_epoch_only": ("workers",),
    "train/test_train_feed_image_cache::test_cached_images_equal_the_files": ("cache",),
    "train/test_train_feed_loader::test_fast_decode_changes_only_the_sharpness": ("fast_decode",),
    f"{LOADER}::test_rect_batches_fit_their_images": ("rect",),
    f"{SAMPLING}::test_dots_are_where_their_labels_are": ("degrees", "translate", "scale", "shear", "perspective"),
    f"{SAMPLING}::test_flips_mirror_pixels_and_permute_keypoints": ("flipud", "fliplr"),
    f"{SAMPLING}::test_mixup_blends_pixels_and_joins_labels": ("mixup",),
    f"{SAMPLING}::test_cutmix_pastes_a_window_next_to_the_instances": ("cutmix",),
    f"{OPERATIONS}::test_bgr_reverses_the_channels": ("bgr",),
    "train/test_train_data::test_selects_images_at_even_intervals": ("fraction",),
    f"{OPERATIONS}::test_hsv_matches_the_formula": ("hsv_h", "hsv_s", "hsv_v"),
    "train/test_train_option_coverage::test_strict_refuses_invalid_labels": ("strict",),
    "data/test_data_fetch::test_large_archives_need_download_true": ("download",),
    "train/test_train_option_coverage::test_verbose_false_prints_no_epochs": ("verbose",),
    "model/test_model_folds::test_each_image_is_predicted_by_a_network_that_never_saw_it": ("folds", "repeats"),
    "config/test_config::test_unread_option_warns_once": ("profile",),
    "train/test_train_distill::test_gains_scale_the_losses": ("dis", "dis_output"),
    "train/test_train_distill::test_a_run_approaches_its_teacher": ("distill_model",),
    "train/test_train_pseudo_labels::test_predictions_of_the_teacher_become_labels": ("unlabeled",),
    "train/test_train_pseudo_labels::test_labels_that_all_views_share": ("unlabeled_conf",),
    "train/test_train_pseudo_labels::test_each_batch_has_pseudo_labeled_images": ("unlabeled_ratio",),
    "train/test_train_pseudo_labels::test_pseudo_labels_have_their_weight": ("unlabeled_weight",),
}


def test_each_option_has_a_test() -> None:
    tested = sorted(option for options in TABLE.values() for option in options)
    assert tested == sorted(field.name for field in fields(TrainOptions))
    tests = Path(__file__).parents[1]
    tests_by_name = {test: test.partition("::") for test in TABLE}
    missing = [
        test
        for test, (file, _, name) in tests_by_name.items()
        if f"def {name}(" not in (tests / f"{file}.py").read_text()
    ]
    assert missing == []


def train(tmp_path: Path, **options: object) -> YOLO:
    data, model_yaml = make_world(tmp_path / "blocks", classes=2)
    model = YOLO(model_yaml)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", "epochs": 1, "val": False, **options})
    return model


def test_exist_ok_reuses_a_folder(tmp_path: Path) -> None:
    runs = [train(tmp_path, name="mine", exist_ok=shared).trainer for shared in (False, False, True)]
    assert [run.save_dir.name for run in runs] == ["mine", "mine2", "mine"]


def test_rare_classes_have_larger_weights(tmp_path: Path) -> None:
    data, _ = make_world(tmp_path / "blocks", classes=2)
    for number in range(1, 7, 2):  # 7 objects of the first class and 1 of the second are left
        file = data.parent / f"labels/train/{number}.txt"
        file.write_text("0" + file.read_text()[1:])
    still = {"optimizer": "SGD", "lr0": 0.0, "warmup_bias_lr": 0.0, "mosaic": 0.0}
    model_yaml = data.parent / "tiny-pose.yaml"
    losses = []
    for power in (0.0, 1.0):
        model = YOLO(model_yaml)
        model.train(
            data=data, **{**FAST, **still, "project": tmp_path / "runs", "epochs": 1, "val": False, "cls_pw": power}
        )
        losses.append(dict(zip(model.trainer.loss_names, model.trainer.tloss.tolist(), strict=True)))
    assert losses[0]["box_loss"] == pytest.approx(losses[1]["box_loss"])
    assert losses[0]["cls_loss"] != pytest.approx(losses[1]["cls_loss"], rel=0.02)


@pytest.mark.parametrize("strict", [False, True])
def test_strict_refuses_invalid_labels(strict: bool, tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    (data.parent / "labels/train/3.txt").write_text("0 0.5 0.5 0.2\n")
    options = {**FAST, "data": data, "project": tmp_path / "runs", "epochs": 1, "val": False, "strict": strict}
    model = YOLO(model_yaml)
    if strict:
        with pytest.raises(DataError, match=r"(?s)1 of 8 images are refused; strict=True allows none.*3\.txt"):
            model.train(**options)
        return
    model.train(**options)
    assert len(model.trainer.data.train) == 7


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_false_prints_no_epochs(verbose: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, verbose=verbose)
    assert ("instances" in capsys.readouterr().out) == verbose


def test_close_mosaic_logs_the_augmentations_that_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, verbose=True, mosaic=0.0, mixup=0.5, cutmix=0.5, close_mosaic=1, epochs=2, val=False)
    assert "The last epoch runs without mixup, cutmix (close_mosaic=1)." in capsys.readouterr().out
