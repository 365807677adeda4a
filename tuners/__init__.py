"""What to change and why: pure planners over facts; `tuners.engine` alone applies what they say."""
