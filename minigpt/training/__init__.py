"""The machinery around the taught training loop: data, resume, devices, logs."""
