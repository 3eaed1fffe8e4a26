"""Where a run's own files lie, as paths in the container. An engine without containers maps them to a folder."""

ROOT = "/mlstudio"
"""The probe, its configuration, and below ``run`` what it writes."""
SECRETS_FOLDER = "/run/secrets"
