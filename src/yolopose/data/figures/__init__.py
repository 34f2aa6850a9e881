"""A data set of drawn figures with exact annotations, for machines without images or network access."""

from yolopose.data.figures.scene import draw_scene
from yolopose.data.figures.write import FiguresSpec, is_figures_folder, parse_figures, write_figures

__all__ = ["FiguresSpec", "draw_scene", "is_figures_folder", "parse_figures", "write_figures"]
