"""What a person types in, text and exit codes out."""
