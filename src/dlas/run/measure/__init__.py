"""What happens inside the measured child, and what is known of the machine."""
