"""What pipelines use: send requests, get replies."""
