"""Plots: ticks, smoothing, thinning, what is read for them, and the widget that draws curves.

Only this package imports pyqtgraph (0.3 s), and the pages import it after the window is on the screen.
"""
