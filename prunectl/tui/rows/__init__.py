"""From a snapshot to the rows of the dashboard's tables, a module each: pure, and tested without a screen."""
