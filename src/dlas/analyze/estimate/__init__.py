"""Anyone's table in, checked values with their noise out."""
