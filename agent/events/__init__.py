"""What happens on this host: seen, compared, damped, sorted by rules, and handed to the inventory and to hooks."""
