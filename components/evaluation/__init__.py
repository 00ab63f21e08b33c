"""From scores to statements: bounded rates, calibration, the operating point, comparison of models."""
