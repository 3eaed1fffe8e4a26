"""The design system's widgets. What there is and how to use it stands in the docstring of `mlstudio.gui`."""
