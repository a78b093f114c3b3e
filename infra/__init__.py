"""Ground floor: settings, releases, telemetry and web parts; it knows nothing of recommendation."""
