"""What is kept on disk: the artefacts of steps, and the results."""
