"""A data set of drawn figures with exact truth, for machines without images or network."""

from yolopose.data.figures.make import FiguresPlan, figures_plan, is_made, make_figures
from yolopose.data.figures.scene import draw_scene

__all__ = ["FiguresPlan", "draw_scene", "figures_plan", "is_made", "make_figures"]
