"""What needs a browser, HTTP or Jupyter beside the core. Nothing in the core imports it; each app can be taken away."""
