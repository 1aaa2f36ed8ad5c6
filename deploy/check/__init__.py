"""Checks of what is in deploy/, offline: `.tools/venv/bin/python -m deploy.check`."""
