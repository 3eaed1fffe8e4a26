"""The recorder's parts: from a container's output to the history, exactly once. See `mlstudio.services.recorder`."""
