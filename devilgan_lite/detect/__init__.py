"""Find a backdoor that nobody told you about."""
