"""All operators but convolutions, each as a kernel."""
