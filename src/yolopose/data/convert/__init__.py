"""Annotations of any format to any other: readers and writers on one record, one file for each format."""

from yolopose.data.convert.conversion import ConversionReport, convert, read_annotations, write_annotations
from yolopose.data.convert.from_coco import ConversionResult, convert_coco
from yolopose.data.convert.registry import detect_format, format_names, get_format
from yolopose.data.convert.sidecar import find_coco_record
from yolopose.data.convert.to_coco import build_coco, export_coco

__all__ = [
    "ConversionReport", "convert", "read_annotations", "write_annotations",
    "detect_format", "format_names", "get_format",
    "ConversionResult", "build_coco", "convert_coco", "export_coco", "find_coco_record",
]  # fmt: skip
